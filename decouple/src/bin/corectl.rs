use decouple::tool::{ThisMachine, finish, parse, corectl};
use std::process::ExitCode;

fn main() -> ExitCode {
    match parse::<corectl::Arguments>(std::env::args_os()) {
        Ok(arguments) => finish("corectl", corectl::run(arguments, &ThisMachine::default())),
        Err(code) => code,
    }
}
