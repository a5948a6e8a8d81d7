// The GraphQL-over-HTTP audits of graphql-http against a gateway: graphql.mjs URL. Any that is not kept is a failure,
// recommendations too.
import { auditServer } from "graphql-http";

const results = await auditServer({ url: process.argv[2] });
const missed = results.filter((result) => result.status !== "ok");
for (const { status, name, reason } of missed) console.log(`${status}: ${name}: ${reason}`);
console.log(`  GraphQL over HTTP: ${results.length - missed.length} of ${results.length} audits kept`);
process.exit(missed.length === 0 && results.length > 0 ? 0 : 1);
