use decouple::tool::{ThisMachine, finish, parse, recouple};
use std::process::ExitCode;

fn main() -> ExitCode {
    match parse::<recouple::Arguments>(std::env::args_os()) {
        Ok(arguments) => finish("recouple", recouple::run(arguments, &ThisMachine::default())),
        Err(code) => code,
    }
}
