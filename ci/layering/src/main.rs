//! Holds the layering of the workspace.

fn main() {}
