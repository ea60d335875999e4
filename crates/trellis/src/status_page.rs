//! The page on the HTTP port: what runs, and how it is. No script, no style sheet, no other file.

use std::fmt::Write as _;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::metrics::{self, Figures};

/// What the page shows. Whoever owns a fact sends a new value when it changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Status {
    /// Whether clients are served and, where there is a gateway, it has its session.
    pub(crate) ready: bool,
    pub(crate) mqtt: Vec<SocketAddr>,
    /// Figures of the broker.
    pub(crate) broker: Figures,
    pub(crate) mesh: Option<Mesh>,
}

/// What the gateway knows of its mesh.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mesh {
    pub(crate) name: String,
    /// What the simulated medium does, in one sentence; empty where the radio is real.
    pub(crate) medium: String,
    pub(crate) devices: Vec<Device>,
    pub(crate) commands: u64,
    pub(crate) confirmed: u64,
    pub(crate) retries: u64,
    pub(crate) failed: u64,
}

/// A lamp or other thing with a state.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) hops: Option<u8>,
    /// `None` until the device has said it, and for what is neither on nor off.
    pub(crate) on: Option<bool>,
    /// What it last said, in a few words; empty before it has said anything.
    pub(crate) says: String,
}

/// Takes the page's port.
pub(crate) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            anyhow::anyhow!("cannot serve the status page on {address}: another program listens there; stop it, or choose another port")
        }
        _ => anyhow::anyhow!("cannot serve the status page on {address}: {error}"),
    })
}

/// Serves the page until the process ends.
pub(crate) async fn serve(listener: TcpListener, status: watch::Receiver<Status>) -> std::io::Result<()> {
    let app = Router::new()
        .route("/", get(page))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(status);
    axum::serve(listener, app).await
}

async fn readyz(State(status): State<watch::Receiver<Status>>) -> (StatusCode, &'static str) {
    if status.borrow().ready {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting\n")
    }
}

async fn metrics(State(status): State<watch::Receiver<Status>>) -> impl IntoResponse {
    let text = metrics::render(&status.borrow().broker);
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text)
}

async fn page(State(status): State<watch::Receiver<Status>>) -> Html<String> {
    Html(render(&status.borrow()))
}

const HEAD: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="2">
<title>Trellis</title>
<style>
:root { color-scheme: light dark; --line: #8885; --on: #f6b73c; --dim: #8889; --ok: #2e9e5b; --bad: #c4453c }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.05rem; margin: 2rem 0 .6rem }
p { margin: .3rem 0 } code { font: 13px ui-monospace, monospace }
pre { overflow-x: auto; padding: .8rem 1rem; border: 1px solid var(--line); border-radius: 8px }
.lead { color: GrayText } .ok { color: var(--ok) } .bad { color: var(--bad) }
.facts { display: flex; flex-wrap: wrap; gap: .4rem 2rem; margin: 0 }
.facts div { min-width: 6rem } .facts dt { color: GrayText; font-size: .85rem }
.facts dd { margin: 0; font-size: 1.15rem; font-variant-numeric: tabular-nums }
.hops { columns: 18rem; column-gap: .8rem; margin-bottom: .4rem }
.hop { break-inside: avoid; border: 1px solid var(--line); border-radius: 8px; padding: .6rem .8rem; margin-bottom: .8rem }
.hop h3 { font-size: .85rem; font-weight: 400; color: GrayText; margin: 0 0 .4rem }
.lamp, .thing { display: flex; align-items: baseline; gap: .5rem; margin: .3rem 0 }
i { width: .8rem; height: .8rem; align-self: center; flex: none }
.lamp i { border-radius: 50%; border: 1px solid var(--dim); box-sizing: border-box }
.lamp.on i { background: var(--on); border-color: var(--on); box-shadow: 0 0 8px var(--on) }
b { font-weight: 500; flex: none; max-width: 70%; overflow-wrap: break-word } small { color: GrayText; margin-left: auto; text-align: right }
</style>
</head>
<body>
"#;

fn render(status: &Status) -> String {
    let mut html = String::from(HEAD);
    let (class, word) = if status.ready { ("ok", "ready") } else { ("bad", "starting") };
    let _ = write!(
        html,
        "<h1>Trellis</h1>\n<p class=lead>Version {} · <span class={class}>{word}</span></p>\n",
        env!("CARGO_PKG_VERSION")
    );
    if let Some(mesh) = &status.mesh {
        render_mesh(&mut html, mesh);
    }
    render_broker(&mut html, status);
    html.push_str("</body>\n</html>\n");
    html
}

fn render_mesh(html: &mut String, mesh: &Mesh) {
    let _ = write!(html, "<h2>Mesh “{}”</h2>\n<div class=hops>\n", escape(&mesh.name));
    let mut distances: Vec<Option<u8>> = mesh.devices.iter().map(|device| device.hops).collect();
    // What has not been heard yet is shown last.
    distances.sort_by_key(|hops| hops.unwrap_or(u8::MAX));
    distances.dedup();
    for hops in distances {
        let title = match hops {
            None => "not heard yet".to_owned(),
            Some(1) => "1 hop".to_owned(),
            Some(hops) => format!("{hops} hops"),
        };
        let _ = writeln!(html, "<section class=hop><h3>{title}</h3>");
        for device in mesh.devices.iter().filter(|device| device.hops == hops) {
            let class = match device.on {
                Some(true) => "lamp on",
                Some(false) => "lamp",
                None => "thing",
            };
            let says = if device.says.is_empty() { "?" } else { &device.says };
            // A long name breaks between its levels.
            let name = escape(&device.name).replace('/', "/<wbr>");
            let (address, says) = (escape(&device.address), escape(says));
            let _ = writeln!(
                html,
                "<div class=\"{class}\" title=\"address {address}\"><i></i><b>{name}</b><small>{says}</small></div>"
            );
        }
        html.push_str("</section>\n");
    }
    html.push_str("</div>\n<dl class=facts>\n");
    for (name, value) in [
        ("commands", mesh.commands),
        ("confirmed", mesh.confirmed),
        ("retries", mesh.retries),
        ("failed", mesh.failed),
    ] {
        let _ = writeln!(html, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }
    let _ = write!(html, "</dl>\n<p class=lead>Radio: {}</p>\n", escape(&mesh.medium));
}

fn render_broker(html: &mut String, status: &Status) {
    html.push_str("<h2>Broker</h2>\n<dl class=facts>\n");
    let Figures { stats, retained, alarms, .. } = &status.broker;
    for (name, value) in [
        ("connections", stats.connections),
        ("sessions", stats.sessions),
        ("retained", *retained),
        ("messages in", stats.messages_received),
        ("messages out", stats.messages_sent),
        ("dropped", stats.dropped()),
    ] {
        let _ = writeln!(html, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }
    html.push_str("</dl>\n");
    for alarm in alarms {
        let _ = writeln!(html, "<p class=bad>Alarm: {alarm}</p>");
    }
    for address in &status.mqtt {
        let _ = writeln!(html, "<p>MQTT 3.1, 3.1.1 and 5.0 on <code>{address}</code> (TCP)</p>");
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> Device {
        Device { name: String::new(), address: String::new(), hops: None, on: None, says: String::new() }
    }

    #[test]
    fn a_name_from_a_file_cannot_write_into_the_page() {
        let device = Device {
            name: "<script>".to_owned(),
            address: "\"0002".to_owned(),
            says: "<i>".to_owned(),
            ..device()
        };
        let mesh = Mesh { devices: vec![device], ..Mesh::default() };
        let page = render(&Status { mesh: Some(mesh), ..Status::default() });
        assert!(page.contains("<b>&lt;script&gt;</b>") && page.contains("&quot;0002"));
        assert!(!page.contains("<script>") && page.contains("<small>&lt;i&gt;</small>"));
    }

    #[test]
    fn lamps_stand_in_the_order_of_their_distance_and_the_unheard_last() {
        let device = |name: &str, hops| Device { name: name.to_owned(), hops, ..device() };
        let devices = vec![device("far", Some(4)), device("new", None), device("near", Some(1))];
        let page = render(&Status { mesh: Some(Mesh { devices, ..Mesh::default() }), ..Status::default() });
        let at = |text: &str| page.find(text).unwrap();
        assert!(at("<h3>1 hop</h3>") < at("<b>near</b>") && at("<b>near</b>") < at("<h3>4 hops</h3>"));
        assert!(at("<b>far</b>") < at("<h3>not heard yet</h3>"));
    }
}
