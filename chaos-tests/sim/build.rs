//! Lets shared libraries and `dlsym` find this program's own clock and randomness.

fn main() {
    println!("cargo:rustc-link-arg-bins=-rdynamic");
    println!("cargo:rerun-if-changed=build.rs");
}
