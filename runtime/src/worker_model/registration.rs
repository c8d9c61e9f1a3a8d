//! Everything that can happen while the function registers its extension.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::task;
use tokio::time::sleep;

use super::choices::{self, Choices};
use super::pipe::{self, Connection, Pipe};
use crate::extension::{Registration, register};

/// What an attempt to register meets.
#[derive(Clone, Copy, Debug, PartialEq)]
enum OnRegistration {
    Register,
    /// The response takes longer than any deadline, and comes in parts.
    RegisterLate,
    RegisterSayingClose,
    /// The connection ends, and the response with it.
    RegisterAndClose,
    Close,
    Refuse,
    RefuseToConnect,
    /// The attempt to connect takes longer than its deadline.
    StallToConnect,
}

/// What the ping meets that is sent with the registration.
#[derive(Clone, Copy, Debug, PartialEq)]
enum OnPing {
    Respond,
    Close,
    Stall,
}

const REGISTERED: &str = "HTTP/1.1 200 OK\r\nLambda-Extension-Identifier: e\r\n";
const BODY: &str = "Content-Length: 2\r\n\r\n{}";

#[test]
fn registers_or_says_why_not_whatever_happens() {
    let mut choices = Choices::new(0);
    choices.is_open = true;
    assert!(choices::explore(choices, &run) > 30);
}

async fn run(choices: &mut Choices) {
    let (connect_sender, mut connects) = mpsc::unbounded_channel();
    pipe::connect_to(connect_sender);
    let registering = task::spawn_local(register::<Pipe>("host"));
    let mut is_registered = false;
    let mut was_sent = false;
    let (mut attempts, mut failures) = (0, 0);
    while failures < 3 {
        let connect = connects.recv().await.unwrap();
        attempts += 1;
        choices.is_open = attempts < 5;
        let on_registration = choices.choose(&[
            OnRegistration::Register,
            OnRegistration::RegisterLate,
            OnRegistration::RegisterSayingClose,
            OnRegistration::RegisterAndClose,
            OnRegistration::Close,
            OnRegistration::Refuse,
            OnRegistration::RefuseToConnect,
            OnRegistration::StallToConnect,
        ]);
        match on_registration {
            // It may be registered, so it connects again, however often that takes.
            OnRegistration::RefuseToConnect if was_sent => continue,
            OnRegistration::StallToConnect => {
                connect.given_up().await;
                failures += u32::from(!was_sent);
                continue;
            }
            OnRegistration::RefuseToConnect => {
                drop(connect);
                let registration = registering.await.unwrap().unwrap();
                assert!(registration.extension.is_err());
                return;
            }
            _ => was_sent = true,
        }
        let mut connection = connect.accept();
        let head = connection.receive_head().await.unwrap();
        assert!(head.starts_with("POST /2020-01-01/extension/register HTTP/1.1\r\n"));
        assert_eq!(connection.receive_exact(14).await, br#"{"events": []}"#);
        let is_taken = is_registered;
        is_registered |= !matches!(
            on_registration,
            OnRegistration::Close | OnRegistration::Refuse
        );
        let response = match on_registration {
            OnRegistration::RegisterAndClose | OnRegistration::Close => {
                failures += 1;
                continue;
            }
            OnRegistration::Refuse => format!("HTTP/1.1 500 Status\r\n{BODY}"),
            _ if is_taken => "HTTP/1.1 403 Forbidden\r\nContent-Length: 49\r\n\r\n\
                {\"errorType\": \"Extension.InvalidExtensionState\"}\r\n"
                .to_owned(),
            OnRegistration::RegisterSayingClose => {
                format!("{REGISTERED}Connection: close\r\n{BODY}")
            }
            _ => format!("{REGISTERED}{BODY}"),
        };
        let (first, rest) = response.split_at(9);
        if on_registration == OnRegistration::RegisterLate {
            sleep(Duration::from_mins(2)).await;
        }
        send(&mut connection, first).await;
        if on_registration == OnRegistration::RegisterLate {
            sleep(Duration::from_mins(2)).await;
        }
        send(&mut connection, rest).await;
        let pipelines = on_ping(&mut connection, choices).await
            && on_registration != OnRegistration::RegisterSayingClose;
        if on_registration == OnRegistration::Refuse {
            assert!(registering.await.unwrap().unwrap().extension.is_err());
        } else if is_taken {
            let problem = registering.await.unwrap().err().expect("no environment");
            assert!(problem.to_string().contains("InvalidExtensionState"));
        } else {
            let asks = if pipelines {
                connection
            } else {
                for _ in 0..choices.choose(&[0, 1, 2]) {
                    drop(connects.recv().await.unwrap());
                }
                connects.recv().await.unwrap().accept()
            };
            assert_asks(asks).await;
            let registration = registering.await.unwrap().unwrap();
            assert!(registration.extension.is_ok());
            assert_eq!(registration.pipelines, pipelines);
        }
        return;
    }
    // Three connections broke, or could not be made in time.
    let Registration { extension, .. } = registering.await.unwrap().unwrap();
    assert!(extension.is_err());
}

/// Returns whether the ping gets a response.
async fn on_ping(connection: &mut Connection, choices: &mut Choices) -> bool {
    let head = connection.receive_head().await.unwrap();
    assert!(head.starts_with("GET /2018-06-01/ping HTTP/1.1\r\n"));
    let on_ping = choices.choose(&[OnPing::Respond, OnPing::Close, OnPing::Stall]);
    match on_ping {
        OnPing::Respond => {
            send(
                connection,
                "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npong",
            )
            .await;
        }
        OnPing::Close => connection.stream.shutdown().await.unwrap(),
        OnPing::Stall => sleep(Duration::from_secs(2)).await,
    }
    on_ping == OnPing::Respond
}

/// Asserts that the extension asks for its first event.
async fn assert_asks(mut connection: Connection) {
    let head = connection.receive_head().await.unwrap();
    assert!(head.starts_with("GET /2020-01-01/extension/event/next HTTP/1.1\r\n"));
    assert!(head.contains("lambda-extension-identifier: e\r\n"));
}

async fn send(connection: &mut Connection, bytes: &str) {
    connection.stream.write_all(bytes.as_bytes()).await.unwrap();
}
