use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use super::{eventually, output_of, read, root, shell};

/// A running `cargo demo --keep`.
pub(crate) struct Demo {
    child: Child,
    printed: String,
    errors: PathBuf,
}

/// Something that runs beside the test in a process group of its own, and ends with this value.
pub(crate) struct Beside(Child);

impl Demo {
    /// Starts it, and waits until it has printed what it has to say.
    pub(crate) fn start() -> Self {
        let file = |name: &str| Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let (out, errors) = (file("demo.out"), file("demo.err"));
        let child = Command::new(env!("CARGO_BIN_EXE_sluice"))
            .args(["demo", "--keep", "--files", "20"])
            .current_dir(root())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&errors).unwrap())
            .spawn()
            .unwrap();
        let mut demo = Self { child, printed: String::new(), errors };
        demo.printed = eventually(|| {
            let running = Path::new("/proc").join(demo.child.id().to_string()).join("exe").exists();
            assert!(running, "the demo ended: {}", read(&demo.errors));
            Some(read(&out)).filter(|text| text.contains("the credentials test and test."))
        });
        assert!(demo.printed.contains("It adds up: 18 files"), "{}", demo.printed);
        demo
    }

    /// The commands in what it printed, which are indented.
    pub(crate) fn commands(&self) -> Vec<String> {
        let (_, kept) = self.printed.split_once("The stack stays up").unwrap();
        kept.lines().filter_map(|line| line.strip_prefix("  ")).map(str::to_owned).collect()
    }

    pub(crate) fn endpoint(&self) -> String {
        endpoint_in(&self.printed)
    }

    pub(crate) fn refuses_another(&self) {
        let refused = output_of(shell("cargo sluice demo")).unwrap_err();
        let sentence = format!(
            "error: another demo is running in this checkout (process {}): end it first",
            self.child.id()
        );
        assert!(refused.contains(&sentence), "{refused}");
        // Nothing was begun.
        assert!(!refused.contains("sam build"), "{refused}");
    }

    /// Ends it as Ctrl-C does, and returns what it said of it.
    pub(crate) fn interrupt(mut self) -> String {
        kill("-INT", &self.child.id().to_string());
        assert_eq!(self.child.wait().unwrap().code(), Some(130));
        read(&self.errors)
    }
}

impl Drop for Demo {
    #[expect(clippy::print_stderr, reason = "what a failed test had to go by")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the demo has printed: {}", read(&self.errors));
        }
        if self.child.try_wait().unwrap().is_none() {
            kill("-TERM", &self.child.id().to_string());
            self.child.wait().unwrap();
        }
    }
}

impl Beside {
    pub(crate) fn start(command: &str, log: &Path) -> Self {
        let log = File::create(log).unwrap();
        let mut shell = shell(command);
        shell.stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        Self(shell.spawn().unwrap())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        kill("-TERM", &format!("-{}", self.0.id()));
        self.0.wait().unwrap();
    }
}

/// Where a stack is, by what says how to reach it.
pub(crate) fn endpoint_in(printed: &str) -> String {
    let (_, rest) = printed.split_once("reaches the stack at ").unwrap();
    rest.split(',').next().unwrap().to_owned()
}

/// A negative process id is that of a group.
fn kill(signal: &str, process: &str) {
    Command::new("kill").args([signal, "--", process]).status().unwrap();
}

/// The command lines of all processes with this variable in their environment.
pub(crate) fn processes_with(variable: &str) -> Vec<String> {
    let folders = fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
    folders
        .filter(|folder| {
            let environment = fs::read(folder.join("environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
        })
        .map(|folder| fs::read_to_string(folder.join("cmdline")).unwrap_or_default())
        .collect()
}
