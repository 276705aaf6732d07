//! How a dump is compressed: block by block, so that several threads work on one stream.
//!
//! Each codec has a header, blocks that one thread's encoder makes and that are joined in order, and an end.

pub mod gzip;
