//! The function's build, in moved and shared places.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::support::{Gate, within};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{ChildStderr, Command};

/// A repository whose function prints where it comes from and ends.
fn checkout(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(directory.join("src")).unwrap();
    fs::create_dir_all(directory.join("emulator")).unwrap();
    let manifest = "[package]\nname = \"fibonacci-generator\"\nedition = \"2024\"\n\n[workspace]\n";
    fs::write(directory.join("Cargo.toml"), manifest).unwrap();
    let main = format!("fn main() {{ println!(\"this is {name}\"); }}\n");
    fs::write(directory.join("src/main.rs"), main).unwrap();
    directory
}

/// What `cargo local` says of the function of this repository.
async fn local(repository: &Path, change: impl FnOnce(&mut Command)) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_emulator"));
    command
        .args(["invoke", "{}"])
        .current_dir(repository)
        .env_remove("CARGO_MANIFEST_DIR")
        .env_remove("CARGO_TARGET_DIR")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    change(&mut command);
    let output = within("a build", command.output()).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn was_run(said: &str, name: &str) -> bool {
    said.contains(&format!("it last printed: this is {name}"))
}

#[tokio::test]
async fn shows_what_cargo_builds() {
    let said = local(&checkout("progress"), |_| {}).await;
    assert!(said.contains("Compiling fibonacci-generator"), "{said}");
    assert!(was_run(&said, "progress"), "{said}");
}

/// As under `cargo run`, which changes neither directory nor executable when a checkout is moved.
#[tokio::test]
async fn builds_a_checkout_that_was_moved() {
    let before = checkout("moved");
    let manifest_dir = |repository: &Path| {
        let directory = repository.join("emulator");
        move |command: &mut Command| {
            command
                .current_dir("/")
                .env("CARGO_MANIFEST_DIR", directory);
        }
    };
    let said = local(&before, manifest_dir(&before)).await;
    assert!(was_run(&said, "moved"), "{said}");
    let after = before.with_file_name("moved-elsewhere");
    let _ = fs::remove_dir_all(&after);
    fs::rename(&before, &after).unwrap();
    let said = local(&after, manifest_dir(&after)).await;
    assert!(was_run(&said, "moved"), "{said}");
}

/// Cargo itself takes one's executable for the other's.
#[tokio::test]
async fn runs_each_checkouts_function_when_they_share_a_target_directory() {
    let (first, second) = (checkout("first"), checkout("second"));
    let shared = first.with_file_name("shared-target");
    let share = |command: &mut Command| {
        command.env("CARGO_TARGET_DIR", &shared);
    };
    for _ in 0..2 {
        let said = local(&first, share).await;
        assert!(was_run(&said, "first"), "{said}");
        let said = local(&second, share).await;
        assert!(was_run(&said, "second"), "{said}");
    }
}

#[tokio::test]
async fn says_that_it_is_outside_the_repository() {
    let said = local(Path::new("/"), |_| {}).await;
    assert_eq!(
        said,
        "error: / is not in the repository of fibonacci-generator: go there, or give a function's \
         executable\n"
    );
}

#[tokio::test]
async fn says_that_the_build_failed() {
    let repository = checkout("broken");
    fs::write(repository.join("src/main.rs"), "fn main() { nonsense }").unwrap();
    let said = local(&repository, |_| {}).await;
    assert!(said.contains("cannot find value `nonsense`"), "{said}");
    let error =
        "error: `cargo build --release -p fibonacci-generator` failed: see its messages above\n";
    assert!(said.ends_with(error), "{said}");
}

/// A function that prints `version` and polls.
fn source(version: &str) -> String {
    format!(
        "use std::io::{{Read, Write}};
         fn main() {{
             println!(\"this is {version}\");
             let runtime_api = std::env::var(\"AWS_LAMBDA_RUNTIME_API\").unwrap();
             let mut poll = std::net::TcpStream::connect(runtime_api).unwrap();
             poll.write_all(
                 b\"GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\nhost: it\\r\\n\\r\\n\",
             )
             .unwrap();
             let _ = poll.read(&mut [0]);
         }}
         "
    )
}

async fn told(stderr: &mut Lines<BufReader<ChildStderr>>, what: &str) -> String {
    within(what, async {
        loop {
            let line = stderr.next_line().await.unwrap();
            let line = line.unwrap_or_else(|| panic!("it ended before {what:?}"));
            if line.contains(what) {
                return line;
            }
        }
    })
    .await
}

#[tokio::test]
async fn watches_the_sources() {
    let repository = checkout("watched-sources");
    let write = |name: &str, text: &str| fs::write(repository.join(name), text).unwrap();
    write("src/main.rs", &source("the first"));
    let mut process = Command::new(env!("CARGO_BIN_EXE_emulator"))
        .args(["--watch", "--concurrency", "1"])
        .args(["--listen", "127.0.0.1:0", "--function-url", "127.0.0.1:0"])
        .current_dir(&repository)
        .env_remove("CARGO_MANIFEST_DIR")
        .env_remove("CARGO_TARGET_DIR")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(process.stderr.take().unwrap()).lines();
    let stderr = &mut stderr;
    told(stderr, "this is the first").await;

    write("src/main.rs", &source("the second"));
    told(stderr, "main.rs changed: building the function").await;
    told(stderr, "this is the second").await;
    told(stderr, "the new function is running").await;

    write("src/main.rs", "fn main() { nonsense }");
    told(stderr, "cannot find value `nonsense`").await;
    told(
        stderr,
        "failed: see its messages above; the old function keeps running",
    )
    .await;

    // A new file counts, and so does one that is deleted.
    write("src/part.rs", "");
    write(
        "src/main.rs",
        &format!("mod part;\n{}", source("the third")),
    );
    let line = told(stderr, "part.rs changed: building the function").await;
    assert!(line.matches("main.rs").count() <= 1, "{line}");
    told(stderr, "this is the third").await;
    told(stderr, "the new function is running").await;
    fs::remove_file(repository.join("src/part.rs")).unwrap();
    told(stderr, "part.rs changed: building the function").await;
    told(stderr, "the old function keeps running").await;

    // A file that changes during a build is built afterwards.
    let gate = Gate::new().await;
    let wait = format!(
        "fn main() {{
             if let Ok(mut gate) = std::net::TcpStream::connect(\"{}\") {{
                 let _ = std::io::Read::read(&mut gate, &mut [0]);
             }}
         }}
         ",
        gate.address()
    );
    write("src/main.rs", &source("the fourth"));
    write("build.rs", &wait);
    let build = gate.entered().await;
    write("src/main.rs", &source("the fifth"));
    drop((build, gate));
    told(stderr, "the new function is running").await;
    told(stderr, "main.rs changed: building the function").await;
    told(stderr, "this is the fifth").await;
    told(stderr, "the new function is running").await;
}
