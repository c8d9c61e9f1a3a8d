//! Everything that can happen while the function registers its extension.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::task;
use tokio::time::sleep;

use super::STALL_LIMIT;
use super::choices::{self, Choices};
use super::connection::Connection;
use super::log;
use crate::extension::register;
use crate::pipe;

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

const LATE: Duration = Duration::from_mins(2);

#[test]
fn registers_or_says_why_not_whatever_happens() {
    let _logging = log::listen(io::sink);
    assert!(choices::explore(4, 9, &run) > 100);
}

async fn run(choices: &mut Choices) {
    let mut connects = pipe::connects();
    let registering = task::spawn_local(register::<DuplexStream>("host"));
    let mut is_registered = false;
    let mut was_sent = false;
    let mut failures = 0;
    while failures < 3 {
        let connect = connects.recv().await.unwrap();
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
            OnRegistration::RefuseToConnect => {
                drop(connect);
                assert!(registering.await.unwrap().unwrap().extension.is_err());
                return;
            }
            OnRegistration::StallToConnect => {
                connect.given_up().await;
                failures += u32::from(!was_sent);
                continue;
            }
            _ => was_sent = true,
        }
        let mut connection = Connection::accept(connect);
        let head = connection.receive_head().await.unwrap();
        assert!(head.starts_with("POST /2020-01-01/extension/register HTTP/1.1\r\n"));
        assert_eq!(connection.receive_exact(14).await, br#"{"events": []}"#);
        let is_taken = is_registered;
        let (status, header) = match on_registration {
            OnRegistration::RegisterAndClose | OnRegistration::Close => {
                is_registered |= on_registration == OnRegistration::RegisterAndClose;
                failures += 1;
                continue;
            }
            OnRegistration::Refuse => ("500 Status", ""),
            _ if is_taken => ("403 Extension.InvalidExtensionState", ""),
            OnRegistration::RegisterSayingClose => ("200 OK", "Connection: close\r\n"),
            _ => ("200 OK", ""),
        };
        if on_registration == OnRegistration::RegisterLate {
            sleep(LATE).await;
        }
        connection.send("HTTP/1.1 ").await;
        if on_registration == OnRegistration::RegisterLate {
            sleep(LATE).await;
        }
        let len = status.len();
        let rest = format!(
            "{status}\r\n{header}Lambda-Extension-Identifier: e\r\nContent-Length: {len}\r\n\r\n{status}"
        );
        connection.send(&rest).await;
        let head = connection.receive_head().await.unwrap();
        assert!(head.starts_with("GET /2018-06-01/ping HTTP/1.1\r\n"));
        let on_ping = choices.choose(&[OnPing::Respond, OnPing::Close, OnPing::Stall]);
        match on_ping {
            OnPing::Respond => {
                let pong = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npong";
                connection.send(pong).await;
            }
            OnPing::Close => connection.stream.shutdown().await.unwrap(),
            OnPing::Stall => sleep(2 * STALL_LIMIT).await,
        }
        let pipelines = on_ping == OnPing::Respond && header.is_empty();
        if on_registration == OnRegistration::Refuse {
            assert!(registering.await.unwrap().unwrap().extension.is_err());
        } else if is_taken {
            let problem = registering.await.unwrap().expect_err("no environment");
            assert!(problem.to_string().contains("InvalidExtensionState"));
        } else {
            if !pipelines {
                for _ in 0..choices.choose(&[0, 1, 2]) {
                    drop(connects.recv().await.unwrap());
                }
                connection = Connection::accept(connects.recv().await.unwrap());
            }
            let head = connection.receive_head().await.unwrap();
            assert!(head.starts_with("GET /2020-01-01/extension/event/next HTTP/1.1\r\n"));
            assert!(head.contains("lambda-extension-identifier: e\r\n"));
            let registration = registering.await.unwrap().unwrap();
            assert!(registration.extension.is_ok());
            assert_eq!(registration.pipelines, pipelines);
        }
        return;
    }
    // Three connections broke, or could not be made in time.
    assert!(registering.await.unwrap().unwrap().extension.is_err());
}
