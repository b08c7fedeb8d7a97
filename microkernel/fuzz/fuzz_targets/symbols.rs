//! Symbol tables: sound ones answer as a list does, others without a panic and from their own text.
#![no_main]

use arbitrary::Arbitrary;
use kcore::symbols::Symbols;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    text: &'a [u8],
    symbols: Vec<(u32, u8)>,
    address: u64,
    near: u32,
}

fuzz_target!(|input: Input| {
    if let Some((name, _)) = Symbols::new(input.text).name_of(input.address) {
        let (all, part) = (input.text.as_ptr_range(), name.as_bytes().as_ptr_range());
        assert!(all.start <= part.start && part.end <= all.end);
    }
    let mut symbols = input.symbols;
    symbols.sort();
    let base = 0xffff_ffff_0000_0000u64;
    let text: String =
        symbols.iter().map(|(at, name)| format!("{:x} T name {name}\n", base + u64::from(*at))).collect();
    let expected = symbols
        .iter()
        .rfind(|(at, _)| *at <= input.near)
        .map(|(at, name)| (format!("name {name}"), u64::from(input.near - at)));
    let found = Symbols::new(text.as_bytes()).name_of(base + u64::from(input.near));
    assert_eq!(found.map(|(name, behind)| (name.to_string(), behind)), expected);
});
