//! The fixtures are part of the program, and the compiler does not notice a new one by itself.

#[expect(clippy::print_stdout, reason = "so a build script speaks to cargo")]
fn main() {
    println!("cargo::rerun-if-changed=fixtures");
}
