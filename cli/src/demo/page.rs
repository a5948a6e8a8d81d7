//! The report: one page, no other file, light or dark as the reader likes.

use super::chart::{self, Layer, escape};
use super::services::Called;
use super::{Setting, Shown, figures, per_second, title};
use crate::bench::plan::{Transport, Workload};
use crate::machine;

const STYLE: &str = "\
:root{color-scheme:light dark;--ground:#fbfbf9;--card:#fff;--text:#1d2329;--soft:#606a75;--line:#dfe2e6;\
--ours:#0b6bcb;--raw:#b5651d;--bare:#6b7280}\
@media(prefers-color-scheme:dark){:root{--ground:#14171b;--card:#1c2026;--text:#e6e9ed;--soft:#9aa4b0;\
--line:#333a43;--ours:#5aa9f5;--raw:#e0964f;--bare:#9aa4b0}}\
*{box-sizing:border-box}body{margin:0;background:var(--ground);color:var(--text);\
font:16px/1.55 system-ui,sans-serif}main{max-width:60rem;margin:0 auto;padding:2.5rem 1.25rem}\
h1{margin:0 0 .25rem;font-size:1.9rem}h2{margin:0 0 .5rem;font-size:1.2rem}h3{margin:1.25rem 0 .25rem;\
font-size:1rem;font-weight:600}p{margin:.4rem 0}.soft,figcaption{color:var(--soft)}\
section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:1.25rem 1.5rem;\
margin:1.5rem 0}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\
th,td{padding:.35rem .6rem;text-align:right;border-bottom:1px solid var(--line)}th{font-weight:600}\
th:first-child,td:first-child,th:nth-child(2),td:nth-child(2){text-align:left}.scroll{overflow-x:auto}\
figure{margin:.5rem 0}svg{width:100%;height:auto;display:block}svg text{font:12px system-ui,sans-serif;\
fill:var(--text);paint-order:stroke;stroke:var(--card);stroke-width:4px;stroke-linejoin:round}.grid{stroke:var(--line)}.axis{stroke:var(--soft)}.area{fill-opacity:.28;stroke-width:1.5}\
.curve{fill:none;stroke-width:1.8;stroke-linejoin:round}.curve.ours{stroke:var(--ours)}.curve.raw{stroke:var(--raw)}\
.curve.bare{stroke:var(--bare);stroke-width:1}.area.ours{fill:var(--ours);stroke:var(--ours)}.area.raw{fill:var(--raw);stroke:var(--raw)}\
.area.bare{fill:var(--bare);fill-opacity:.1;stroke:var(--bare);stroke-dasharray:3 2}\
.bar.ours{fill:var(--ours)}.bar.raw{fill:var(--raw)}.bar.bare{fill:var(--bare)}\
line.mark{stroke-dasharray:4 3}line.mark.ours{stroke:var(--ours)}line.mark.raw{stroke:var(--raw)}\
line.mark.bare{stroke:var(--bare)}svg text.ours{fill:var(--ours)}svg text.raw{fill:var(--raw)}\
svg text.bare{fill:var(--bare)}code{font-size:.92em}";

/// The whole page.
pub(super) fn page(setting: &Setting, shown: &[Shown], called: &[Called]) -> String {
    let mut body = heading(setting, shown);
    body += &overview(shown);
    for transport in super::TRANSPORTS {
        let of: Vec<_> = shown
            .iter()
            .filter(|one| one.line.transport == transport)
            .collect();
        body += &section(transport, &of);
    }
    body += &calls(called);
    body += "<section><h2>How it was measured</h2><p>One pair of processes, client and server pinned to \
             a core each. Every round runs the hand-written sockets, ringway, and the hand-written \
             sockets again; the order rotates. The raw side exchanges the same bytes in the same batches, \
             by plain system calls. Ratios are medians over the rounds. A page like this shows what to \
             expect; claims take at least 31 rounds: <code>ringway bench rtt</code>.</p></section>";
    shell("ringway demo", &body)
}

/// A page of this look.
pub(crate) fn shell(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><title>{title}</title><style>{STYLE}</style>\
         </head><body><main>{body}</main></body></html>\n"
    )
}

fn heading(setting: &Setting, shown: &[Shown]) -> String {
    let rounds = shown.iter().map(|one| one.line.rounds).max().unwrap_or(0);
    let mut text = format!(
        "<h1>ringway beside raw sockets</h1><p class=\"soft\">{}, Linux {}; driver {}, policy {}; \
         64-byte messages, {rounds} rounds</p>",
        escape(&machine::processor()),
        escape(&machine::kernel()),
        setting.driver,
        setting.policy,
    );
    if let Some(fallback) = &setting.fallback {
        text += &format!("<p>io_uring can't be used here: {}</p>", escape(fallback));
    }
    text
}

fn overview(shown: &[Shown]) -> String {
    let mut text =
        "<section><h2>Overview</h2><div class=\"scroll\"><table><thead><tr><th>transport</th>\
                    <th>figure</th><th>ringway</th><th>raw</th><th>ratio</th></tr></thead><tbody>"
            .to_owned();
    for one in shown {
        let [ours, raw, ratio] = figures(one);
        text += &format!(
            "<tr><td>{}</td><td>{}</td><td>{ours}</td><td>{raw}</td><td>{ratio}</td></tr>",
            one.line.transport,
            title(one.line.workload)
        );
    }
    text + "</tbody></table></div><p class=\"soft\">A round trip is better when its ratio is low, a rate \
            when it is high.</p></section>"
}

fn section(transport: Transport, shown: &[&Shown]) -> String {
    let name = match transport {
        Transport::Tcp => "TCP",
        Transport::Unix => "Unix sockets",
        Transport::Udp => "UDP datagrams",
        Transport::Rudp => "reliable UDP",
        Transport::Quic => "QUIC",
    };
    let mut text = format!("<section><h2>{name}</h2>");
    for one in shown {
        text += &match one.line.workload {
            Workload::Rtt => round_trips(name, one),
            workload => rates(
                &format!("{name}: {}", title(workload)),
                title(workload),
                one,
            ),
        };
    }
    text + "</section>"
}

fn round_trips(name: &str, one: &Shown) -> String {
    let mut layers = vec![
        Layer {
            name: "ringway",
            class: "ours",
            latencies: &one.outcome.ours.latencies,
        },
        Layer {
            name: "raw",
            class: "raw",
            latencies: &one.outcome.raw.latencies,
        },
    ];
    if let Some(bare) = &one.outcome.second {
        layers.push(Layer {
            name: "raw, bare",
            class: "bare",
            latencies: &bare.latencies,
        });
    }
    let chart = chart::latencies(&format!("{name}: distribution of round trips"), &layers);
    format!(
        "<h3>Round trips, one call after the other</h3><figure>{chart}<figcaption>Share of round trips \
         over a logarithmic time axis; dashed lines are medians, and the last of a long tail is cut off.</figcaption></figure>"
    )
}

fn rates(label: &str, heading: &str, one: &Shown) -> String {
    let line = &one.line;
    let bare = line.raw_bare.and_then(|figures| figures.per_s);
    let of = [
        ("ringway", "ours", line.ours.per_s),
        ("raw", "raw", line.raw.per_s),
        ("raw, bare", "bare", bare),
    ];
    let values: Vec<_> = of
        .into_iter()
        .filter_map(|(name, class, value)| Some((name, class, value?, per_second(value?))))
        .collect();
    format!(
        "<h3>{}</h3><figure>{}</figure>",
        capital(heading),
        chart::bars(label, &values)
    )
}

/// Calls of the example service, all transports in one chart.
fn calls(called: &[Called]) -> String {
    let classes = ["ours", "raw"];
    let names: Vec<String> = called.iter().map(|one| one.transport.to_string()).collect();
    let of_each = || called.iter().zip(&names).zip(classes);
    let layers: Vec<_> = of_each()
        .map(|((one, name), class)| Layer {
            name,
            class,
            latencies: &one.round_trips,
        })
        .collect();
    let chart = chart::latencies("kv.KeyValue/Get: distribution of round trips", &layers);
    let rates: Vec<_> = of_each()
        .map(|((one, name), class)| (name.as_str(), class, one.per_s, per_second(one.per_s)))
        .collect();
    let rates = chart::bars("kv.KeyValue/Get: calls, 64 in flight", &rates);
    format!(
        "<section><h2>Calls</h2><p>The key-value example in a process of its own: <code>ringway serve --example \
         kv</code>. A <code>Get</code> of 64 bytes, from one thread.</p><h3>Round trips, one call after the other</h3>\
         <figure>{chart}<figcaption>Share of round trips over a logarithmic time axis; dashed lines are medians, and \
         the last of a long tail is cut off.</figcaption></figure><h3>Calls, 64 in flight</h3><figure>{rates}</figure>\
         </section>"
    )
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}
