//! A page in headless Chromium.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use emulator::{Emulator, Settings};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::time::sleep;

use super::{start, within};

/// It is told what to do over pipes, in Chromium's own protocol.
pub(crate) struct Browser {
    requests: ChildStdin,
    messages: BufReader<ChildStdout>,
    /// The tab.
    pub(crate) session: String,
}

impl Browser {
    pub(crate) async fn open(url: &str) -> Self {
        // It speaks on descriptors 3 and 4, and ends when nobody listens any more.
        let script = r#"profile=$(mktemp -d)
            chromium --user-data-dir="$profile" "$@" 3<&0 4>&1 </dev/null >&2
            rm -r "$profile""#;
        let options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run \
                       --disable-background-networking --disable-component-update --disable-sync \
                       --remote-debugging-pipe";
        let mut process = Command::new("sh")
            .args(["-c", script, "chromium"])
            .args(options.split(' '))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let mut browser = Self {
            requests: process.stdin.take().unwrap(),
            messages: BufReader::new(process.stdout.take().unwrap()),
            session: String::new(),
        };
        browser.open_tab(url).await;
        browser
    }

    /// Opens another tab and goes on there. Returns the tab before it.
    pub(crate) async fn open_tab(&mut self, url: &str) -> String {
        let before = std::mem::take(&mut self.session);
        let blank = json!({ "url": "about:blank" });
        let target = self.call("Target.createTarget", blank).await;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.call("Target.attachToTarget", attach).await;
        let session = attached["sessionId"].as_str().unwrap();
        session.clone_into(&mut self.session);
        self.call("Page.navigate", json!({ "url": url })).await;
        self.wait("document.readyState === 'complete'").await;
        before
    }

    pub(crate) async fn call(&mut self, method: &str, params: Value) -> Value {
        let mut request = json!({ "id": 1, "method": method, "params": params });
        if !self.session.is_empty() {
            request["sessionId"] = self.session.clone().into();
        }
        let request = format!("{request}\0");
        let sent = self.requests.write_all(request.as_bytes());
        within("Chromium to listen", sent).await.expect("it runs");
        within(&format!("Chromium's result of {method}"), async {
            loop {
                let mut message = self.next_message().await;
                if message["id"] == 1 {
                    assert_eq!(message["error"], Value::Null, "{method}");
                    return message["result"].take();
                }
            }
        })
        .await
    }

    pub(crate) async fn next_message(&mut self) -> Value {
        let mut message = Vec::new();
        let read = self.messages.read_until(0, &mut message);
        let read = within("a message of Chromium", read).await;
        read.expect("it runs");
        message.pop();
        serde_json::from_slice(&message).expect("JSON")
    }

    /// The value of an expression in the page, awaited.
    pub(crate) async fn value(&mut self, expression: &str) -> Value {
        let params = json!({
            "expression": expression, "awaitPromise": true, "returnByValue": true,
        });
        let mut evaluated = self.call("Runtime.evaluate", params).await;
        assert_eq!(evaluated["exceptionDetails"], Value::Null, "{expression}");
        evaluated["result"]["value"].take()
    }

    /// Waits until a condition in the page is true.
    pub(crate) async fn wait(&mut self, condition: &str) {
        within(condition, async {
            while self.value(&format!("Boolean({condition})")).await != true {
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    /// Waits until an element shows this text.
    pub(crate) async fn wait_for_text(&mut self, selector: &str, text: &str) {
        self.wait(&format!("$({selector:?}).innerText.includes({text:?})"))
            .await;
    }

    pub(crate) async fn text(&mut self, selector: &str) -> String {
        let text = self.value(&format!("$({selector:?}).innerText")).await;
        text.as_str().unwrap().to_owned()
    }

    /// Clicks a button and waits until the page may send again.
    pub(crate) async fn click(&mut self, selector: &str) {
        self.value(&format!("$({selector:?}).click()")).await;
        self.wait("!$('button').ariaDisabled").await;
    }

    /// Types an event over the one that is there.
    pub(crate) async fn enter(&mut self, event: &str) {
        let event = json!(event);
        let enter = format!("event.value = {event}; event.dispatchEvent(new Event('input')); 0");
        self.value(&enter).await;
    }

    /// Sends an event. Returns what the page says of the outcome.
    pub(crate) async fn invoke(&mut self, event: &str) -> String {
        self.enter(event).await;
        self.click("button.main").await;
        self.text("#outcome").await
    }
}

/// Starts a function and opens its console.
pub(crate) async fn open(settings: Settings) -> (Arc<Emulator>, Browser) {
    let emulator = start(settings).await;
    let browser = Browser::open(&format!("http://{}/", emulator.invoke_address())).await;
    (emulator, browser)
}
