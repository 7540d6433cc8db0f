//! `kinesis-server [--port N]`: a Kinesis server on loopback that serves until Ctrl-C.

use std::io::Write;
use std::process::ExitCode;

use triton_test_server::{Server, ServerOptions};

/// The port that other local Kinesis servers use as well.
const PORT: u16 = 4567;

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // A failure to write to stderr cannot be reported.
            let _ = writeln!(std::io::stderr(), "kinesis-server: {why}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), String> {
    let port = port(std::env::args().skip(1))?;
    let server =
        Server::start(ServerOptions::default().with_port(port)).map_err(|why| format!("port {port}: {why}"))?;
    writeln!(std::io::stdout(), "{}", server.endpoint_url()).map_err(|why| why.to_string())?;
    // The server has its own thread; Ctrl-C ends the process.
    loop {
        std::thread::park();
    }
}

fn port(mut arguments: impl Iterator<Item = String>) -> Result<u16, String> {
    let usage = || "usage: kinesis-server [--port N]".to_owned();
    let Some(argument) = arguments.next() else { return Ok(PORT) };
    let number = match argument.strip_prefix("--port") {
        Some("") => arguments.next().ok_or_else(usage)?,
        Some(rest) => rest.strip_prefix('=').ok_or_else(usage)?.to_owned(),
        None => return Err(usage()),
    };
    if arguments.next().is_some() {
        return Err(usage());
    }
    number.parse().map_err(|_| format!("--port {number}: not a port; give a number from 0 to 65535"))
}
