//! Load generator for the side-by-side benchmarks.

fn main() {}
