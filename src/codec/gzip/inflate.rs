//! Raw deflate, unpacked by ISA-L, or by zlib-rs without the feature `isal`.

#[cfg(feature = "isal")]
pub(super) use isal::Inflate;
#[cfg(not(feature = "isal"))]
pub(super) use zlib::Inflate;

/// ISA-L takes two thirds of zlib-rs's time.
#[cfg(feature = "isal")]
mod isal {
    use isal_deflate::Inflater;

    #[derive(Default)]
    pub struct Inflate(Inflater);

    impl Inflate {
        /// Appends what the next bytes unpack to, as far as the capacity goes, and returns how many were read.
        pub fn inflate(&mut self, deflated: &[u8], plain: &mut Vec<u8>) -> Result<usize, String> {
            self.0.inflate(deflated, plain).map_err(|error| error.to_string())
        }

        /// Whether the last block has ended.
        pub fn has_ended(&self) -> bool {
            self.0.has_ended()
        }

        /// How many of the bytes that were read follow the last block.
        pub fn read_beyond_end(&self) -> usize {
            self.0.read_beyond_end()
        }
    }
}

#[cfg(not(feature = "isal"))]
mod zlib {
    use flate2::{Decompress, FlushDecompress, Status};

    pub struct Inflate {
        inflate: Box<Decompress>,
        has_ended: bool,
    }

    impl Default for Inflate {
        fn default() -> Self {
            Self { inflate: Box::new(Decompress::new(false)), has_ended: false }
        }
    }

    impl Inflate {
        /// Appends what the next bytes unpack to, as far as the capacity goes, and returns how many were read.
        pub fn inflate(&mut self, deflated: &[u8], plain: &mut Vec<u8>) -> Result<usize, String> {
            let before = self.inflate.total_in();
            let status = self.inflate.decompress_vec(deflated, plain, FlushDecompress::None);
            self.has_ended = status.map_err(|error| error.to_string())? == Status::StreamEnd;
            Ok(usize::try_from(self.inflate.total_in() - before).unwrap_or(usize::MAX))
        }

        /// Whether the last block has ended.
        pub fn has_ended(&self) -> bool {
            self.has_ended
        }

        /// How many of the bytes that were read follow the last block: zlib reads none.
        pub fn read_beyond_end(&self) -> usize {
            0
        }
    }
}
