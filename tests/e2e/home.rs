//! A separate home folder per test, and the command run in it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use triton_test_server::Server;

/// The longest wait for an event, generous enough for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Home {
    folder: TempDir,
    /// Environment variables of the command, besides the home.
    variables: Vec<(&'static str, String)>,
    /// Text that differs between runs, and its placeholder.
    placeholders: Vec<(String, &'static str)>,
}

/// The outcome of a run.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: Option<i32>,
}

fn triton() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let triton = this.parent().and_then(Path::parent).unwrap().join("triton");
    assert!(triton.exists(), "{} is missing: run 'make test', or 'cargo build' first", triton.display());
    triton
}

impl Home {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let placeholders = vec![(folder.path().display().to_string(), "[HOME]")];
        Self { folder, variables: Vec::new(), placeholders }
    }

    /// A home with a config and an environment that points to a Kinesis server.
    pub(crate) fn on_kinesis(config: &str, server: &Server) -> Self {
        let mut home = Self::with_config(config);
        home.placeholders.push((server.endpoint_url(), "[SERVER]"));
        home.variables = vec![
            ("AWS_ACCESS_KEY_ID", "key".into()),
            ("AWS_SECRET_ACCESS_KEY", "secret".into()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_ENDPOINT_URL", server.endpoint_url()),
            // The tests use no other machine.
            ("AWS_EC2_METADATA_DISABLED", "true".into()),
        ];
        home
    }

    /// Sets a variable, or removes it.
    pub(crate) fn with_variable(mut self, name: &'static str, value: Option<&str>) -> Self {
        self.variables.retain(|(variable, _)| *variable != name);
        self.variables.extend(value.map(|value| (name, value.to_owned())));
        self
    }

    fn steady(&self, printed: &[u8]) -> String {
        let printed = String::from_utf8_lossy(printed).into_owned();
        self.placeholders.iter().fold(printed, |text, (changing, name)| text.replace(changing, name))
    }

    /// A home with a config in the working folder.
    pub(crate) fn with_config(config: &str) -> Self {
        let home = Self::new();
        home.write("triton.yaml", config);
        home
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn write(&self, file: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn stream_file(&self, stream: &str) -> PathBuf {
        self.path().join(".local/share/triton/streams").join(format!("{stream}.db"))
    }

    /// The command with only this home in its environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(&triton());
        command.args(arguments);
        command
    }

    /// Another program in the same folder and environment.
    pub(crate) fn program(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("HOME", self.path()).current_dir(self.path());
        command.envs(self.variables.iter().cloned());
        command
    }

    /// Runs the command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(self.command(arguments), b"")
    }

    /// Runs the command to its end with `input` on its stdin.
    pub(crate) fn feed(&self, arguments: &[&str], input: impl AsRef<[u8]>) -> Ran {
        self.run_with(self.command(arguments), input.as_ref())
    }

    pub(crate) fn run_with(&self, mut command: Command, input: &[u8]) -> Ran {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
        // The command may end without reading all of its input.
        let feeding = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        feeding.join().unwrap();
        Ran { stdout: self.steady(&output.stdout), stderr: self.steady(&output.stderr), code: output.status.code() }
    }

    /// Starts the command; its stdin and stdout are pipes.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Running { child, stdout }
    }

    /// The lines that `get --from all -e` prints in this format.
    pub(crate) fn all(&self, stream: &str, format: &str) -> Vec<String> {
        let ran = self.run(&["get", "-q", "-s", stream, "--from", "all", "-e", "-o", format]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
        ran.stdout.lines().map(str::to_owned).collect()
    }
}

impl Ran {
    /// Stderr and the exit code, for snapshots of errors.
    pub(crate) fn mistake(&self) -> String {
        assert_eq!(self.stdout, "", "nothing is printed to stdout");
        format!("{}[{}]", self.stderr, self.code.map_or("signal".into(), |code| code.to_string()))
    }

    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }
}

/// A command that runs in the background; killed when dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) stdout: BufReader<ChildStdout>,
}

impl Running {
    pub(crate) fn write(&mut self, input: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    pub(crate) fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Waits for the end. Returns the rest of stdout.
    pub(crate) fn end(mut self) -> (ExitStatus, String, String) {
        drop(self.child.stdin.take());
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut stdout).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (self.wait(), stdout, stderr)
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "the command does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Waits for an event.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}
