//! The function that is found in a repository, and its build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::command_line::{bare, output, serve_command};
use crate::support::{Gate, function, scratch, told, told_all};
use tokio::process::Command;

/// A repository with a package of this name, whose binary prints where it comes from and ends.
fn checkout(name: &str) -> PathBuf {
    let directory = scratch(name);
    let manifest = format!("[package]\nname = \"{name}\"\nedition = \"2024\"\n\n[workspace]\n");
    write(&directory, "Cargo.toml", &manifest);
    write(&directory, "src/main.rs", &prints(name));
    directory
}

fn prints(name: &str) -> String {
    format!("fn main() {{ println!(\"this is {name}\"); }}\n")
}

fn write(directory: &Path, file: &str, text: &str) {
    let path = directory.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// `cargo local` in this folder.
fn cargo_local(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = bare(arguments);
    command
        .current_dir(directory)
        .env_remove("CARGO_TARGET_DIR");
    command
}

/// What a command that fails says.
async fn says(command: &mut Command) -> String {
    let (status, _, said) = output(command).await;
    assert_eq!(status, Some(1));
    said
}

/// What `cargo local` says of the function here.
async fn local(directory: &Path, arguments: &[&str]) -> String {
    says(cargo_local(directory, &["invoke", "{}"]).args(arguments)).await
}

/// Asserts that the function that prints this was run.
fn was_run(said: &str, name: &str) {
    let expected = format!("it last printed: this is {name}");
    assert!(said.contains(&expected), "not {name}: {said}");
}

#[tokio::test]
async fn builds_a_checkout_also_when_it_was_moved() {
    let before = checkout("moved");
    let said = local(&before.join("src"), &[]).await;
    assert!(said.contains("Compiling moved"), "{said}");
    was_run(&said, "moved");
    let after = before.with_file_name("moved-elsewhere");
    fs::rename(&before, &after).unwrap();
    was_run(&local(&after, &[]).await, "moved");

    fs::write(after.join("src/main.rs"), "fn main() { nonsense }").unwrap();
    let said = local(&after, &[]).await;
    assert!(said.contains("cannot find value `nonsense`"), "{said}");
    let error = "error: `cargo build --profile release -p moved --bin moved` failed: see its messages above\n";
    assert!(said.ends_with(error), "{said}");
}

/// Cargo itself takes one's executable for the other's.
#[tokio::test]
async fn runs_each_checkouts_function_when_they_share_a_target_directory() {
    let (first, second) = (checkout("first"), checkout("second"));
    // The same package, but for what it prints.
    fs::copy(first.join("Cargo.toml"), second.join("Cargo.toml")).unwrap();
    let shared = first.with_file_name("shared-target");
    for _ in 0..2 {
        for (checkout, name) in [(&first, "first"), (&second, "second")] {
            let mut command = cargo_local(checkout, &["invoke", "{}"]);
            was_run(&says(command.env("CARGO_TARGET_DIR", &shared)).await, name);
        }
    }
}

/// Two packages, of which the second has two binaries and an example.
fn workspace() -> PathBuf {
    let directory = scratch("workspace");
    let members = "[workspace]\nmembers = [\"one\", \"two\"]\nresolver = \"3\"\n";
    write(&directory, "Cargo.toml", members);
    let one = "[package]\nname = \"one\"\nedition = \"2024\"\n";
    write(&directory, "one/Cargo.toml", one);
    write(&directory, "one/src/main.rs", &prints("one"));
    let two = "[package]\nname = \"two\"\nedition = \"2024\"\n[features]\nloud = []\n";
    write(&directory, "two/Cargo.toml", two);
    write(&directory, "two/src/bin/left.rs", &prints("left"));
    let right = "fn main() { println!(\"this is {}\", if cfg!(feature = \"loud\") { \"RIGHT\" } \
                 else if cfg!(debug_assertions) { \"debug right\" } else { \"right\" }); }\n";
    write(&directory, "two/src/bin/right.rs", right);
    write(&directory, "two/examples/sample.rs", &prints("sample"));
    directory
}

#[tokio::test]
async fn finds_the_function_or_lists_what_could_be_it() {
    let root = workspace();
    let (one, two) = (root.join("one"), root.join("two"));
    for (directory, arguments, what) in [
        (&one, &[][..], "one"),
        (&root, &["-p", "one"], "one"),
        (&two, &["--bin", "left"], "left"),
        (&root, &["--bin", "right"], "right"),
        (&two, &["--bin", "right", "--features", "loud"], "RIGHT"),
        (&two, &["--bin", "right", "--profile", "dev"], "debug right"),
        (&one, &["-p", "two", "--example", "sample"], "sample"),
    ] {
        was_run(&local(directory, arguments).await, what);
    }
    let in_two = "-p two --bin left or -p two --bin right";
    let in_all = format!("choose a function: -p one --bin one or {in_two}");
    let in_two = format!("choose a function: {in_two}");
    let none_fits = format!("no binary here fits; {in_all}");
    let no_manifest = "could not find `Cargo.toml` in `/` or any parent directory; go to a Rust package, \
                       or give an executable with --bootstrap";
    for (directory, arguments, error) in [
        (&root, &[][..], &*in_all),
        (&two, &[], &in_two),
        (&root, &["-p", "three"], &none_fits),
        (&two, &["--bin", "up"], &none_fits),
        (&PathBuf::from("/"), &[], no_manifest),
    ] {
        let said = local(directory, arguments).await;
        assert_eq!(said, format!("error: {error}\n"), "{arguments:?}");
    }
    let two = "[package]\nname = \"two\"\nedition = \"2024\"\ndefault-run = \"right\"\n";
    write(&root, "two/Cargo.toml", two);
    was_run(&local(&root.join("two/src"), &[]).await, "right");
}

/// A program that prints `version` and becomes the test function.
fn source(version: &str) -> String {
    let function = function().bootstrap;
    let function = function.display();
    format!(
        "fn main() {{
             println!(\"this is {version}\");
             let mut function = std::process::Command::new(\"{function}\");
             panic!(\"{{}}\", std::os::unix::process::CommandExt::exec(&mut function));
         }}
         "
    )
}

#[tokio::test]
async fn watches_the_sources() {
    let repository = checkout("watched-sources");
    let write = |name: &str, text: &str| write(&repository, name, text);
    write("src/main.rs", &source("the first"));
    let package = "[package]\nname = \"watched-sources\"\nedition = \"2024\"\n";
    let helper = "[dependencies]\nhelper.path = \"helper\"\n[workspace]\n";
    write("Cargo.toml", &format!("{package}{helper}"));
    let helper = package.replace("watched-sources", "helper");
    write("helper/Cargo.toml", &helper);
    write("helper/src/lib.rs", "");
    let mut command = cargo_local(&repository, &["--watch", "--concurrency", "1"]);
    let mut served = serve_command(&mut command, Stdio::piped()).await;
    let stderr = &mut served.stderr();
    told(stderr, "this is the first").await;

    write("helper/src/lib.rs", "// What it depends on counts.");
    told(stderr, "lib.rs changed: building the function").await;
    told(stderr, "the new function is running").await;

    write("src/main.rs", &source("the second"));
    told(stderr, "main.rs changed: building the function").await;
    // Its line and the emulator's come on different ways.
    let is_running = "the new function is running";
    told_all(stderr, &["this is the second", is_running]).await;

    write("src/main.rs", "fn main() { nonsense }");
    told(stderr, "cannot find value `nonsense`").await;
    let goes_on = "failed: see its messages above; the old function keeps running";
    told(stderr, goes_on).await;

    // A new file counts, and so does one that is deleted.
    write("src/part.rs", "");
    let third = format!("mod part;\n{}", source("the third"));
    write("src/main.rs", &third);
    let line = told(stderr, "part.rs changed: building the function").await;
    assert!(line.matches("main.rs").count() <= 1, "{line}");
    told_all(stderr, &["this is the third", is_running]).await;
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
    drop(build);
    // The gate stays, because another test could get its port, but holds nobody.
    tokio::spawn(async move {
        loop {
            drop(gate.entered().await);
        }
    });
    told(stderr, "the new function is running").await;
    told(stderr, "main.rs changed: building the function").await;
    told_all(stderr, &["this is the fifth", is_running]).await;
}
