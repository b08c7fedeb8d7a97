use decouple::tool::{ThisMachine, finish, parse, run, status};
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let host = ThisMachine::default();
    // A command that is called status is started with ./status or after --.
    if arguments.get(1).is_some_and(|word| word == "status") {
        return match parse::<status::Arguments>(arguments.into_iter().skip(1)) {
            Ok(arguments) => finish("decouple", status::run(arguments, &host)),
            Err(code) => code,
        };
    }
    match parse::<run::Arguments>(arguments) {
        Ok(arguments) => finish("decouple", run::run(arguments, &host)),
        Err(code) => code,
    }
}
