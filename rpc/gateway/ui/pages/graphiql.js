// Asks /graphql, and reads the answer as a stream of events: so subscriptions need nothing of their own.
async function* answers(params, options) {
  const response = await fetch("/graphql", {
    method: "POST",
    headers: { "content-type": "application/json", accept: "text/event-stream", ...options?.headers },
    body: JSON.stringify(params),
  });
  if (!response.headers.get("content-type")?.startsWith("text/event-stream")) {
    yield await response.json();
    return;
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      text += value;
      const events = text.split("\n\n");
      text = events.pop();
      for (const event of events) {
        const data = event.split("\n").find((line) => line.startsWith("data: "));
        if (event.startsWith("event: next") && data) yield JSON.parse(data.slice("data: ".length));
      }
    }
  } finally {
    // Stopping the page's stream cancels the call.
    await reader.cancel();
  }
}

const root = ReactDOM.createRoot(document.getElementById("page"));
root.render(React.createElement(GraphiQL, { fetcher: answers }));
