use decouple::tool::{ThisMachine, corectl, finish, parse};
use std::process::ExitCode;

fn main() -> ExitCode {
    match parse::<corectl::Arguments>(std::env::args_os()) {
        Ok(arguments) => finish("corectl", corectl::run(arguments, &ThisMachine::default())),
        Err(code) => code,
    }
}
