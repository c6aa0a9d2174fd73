//! The hookonce program.

fn main() {}
