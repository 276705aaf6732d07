//! Raw deflate, unpacked by ISA-L, or by zlib-rs without the feature `isal`.

#[cfg(feature = "isal")]
pub(super) use isal_deflate::Inflater as Inflate;
#[cfg(not(feature = "isal"))]
pub(super) use zlib::Inflate;

/// What [`isal_deflate::Inflater`] does, with zlib-rs.
#[cfg(not(feature = "isal"))]
mod zlib {
    use flate2::{Decompress, DecompressError, FlushDecompress, Status};

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
        pub fn inflate(&mut self, deflated: &[u8], plain: &mut Vec<u8>) -> Result<usize, DecompressError> {
            let before = self.inflate.total_in();
            self.has_ended = self.inflate.decompress_vec(deflated, plain, FlushDecompress::None)? == Status::StreamEnd;
            Ok(usize::try_from(self.inflate.total_in() - before).unwrap_or(usize::MAX))
        }

        /// Whether the last block has ended.
        pub fn has_ended(&self) -> bool {
            self.has_ended
        }

        /// How many of the bytes that were read follow the last block: zlib reads none.
        #[expect(clippy::unused_self, reason = "ISA-L's reads some")]
        pub fn read_beyond_end(&self) -> usize {
            0
        }
    }
}
