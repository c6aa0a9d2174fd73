//! The fixtures are part of the program, and the compiler does not notice a new one by itself.

fn main() {
    println!("cargo::rerun-if-changed=fixtures");
}
