//! Deflates blocks into pieces that can be joined, by ISA-L: about five times as fast as zlib at the same size. Inflates them, in about
//! 0.7 of the time of zlib-rs (a restore of 735 MB).
//!
//! The only crate of the project with `unsafe`: it owns ISA-L's streams and gives them slices. All that ISA-L keeps from
//! one call to the next lies in [`Deflater`] and [`Inflater`]; the pointers to a caller's slices are set anew by each call of
//! [`Deflater::block`] and [`Inflater::inflate`], and ISA-L reads and writes through them within that call alone.
#![expect(unsafe_code, reason = "ISA-L is C and assembler")]

use isal_sys::igzip_lib as isal;

mod inflater;

pub use inflater::Inflater;

#[expect(clippy::cast_possible_truncation, reason = "it is 1")]
const SYNC_FLUSH: u16 = isal::SYNC_FLUSH as u16;
const SUCCESS: i32 = isal::COMP_OK.cast_signed();
const _: () = assert!(isal::ISAL_DECOMP_OK == isal::COMP_OK, "success has one code");

/// How much ISA-L looks for matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// ISA-L's level 1.
    Fast,
    /// ISA-L's level 3: about 3 % smaller than [`Level::Fast`] at two thirds of its speed.
    Small,
}

/// ISA-L refused a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It returned this, not `COMP_OK`.
    Code(i32),
    /// The block has 4 GiB or more, which its 32-bit lengths do not hold.
    TooLarge,
    /// It neither read nor wrote, though both were possible.
    NoProgress,
}

impl std::fmt::Display for Error {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(formatter, "ISA-L returned {code}"),
            Self::TooLarge => formatter.write_str("a block has 4 GiB or more"),
            Self::NoProgress => formatter.write_str("ISA-L makes no progress"),
        }
    }
}

impl std::error::Error for Error {}

/// ISA-L's state for one thread: 80 KiB, and a buffer for matches.
pub struct Deflater {
    stream: Box<isal::isal_zstream>,
    /// `stream.level_buf` points into it.
    _matches: Box<[u8]>,
}

impl Deflater {
    /// A deflater of this level.
    #[must_use]
    pub fn new(level: Level) -> Self {
        // The sizes that ISA-L recommends, 276 and 340 KiB.
        let (level, size) = match level {
            Level::Fast => (1, isal::ISAL_DEF_LVL1_DEFAULT),
            Level::Small => (3, isal::ISAL_DEF_LVL3_DEFAULT),
        };
        let mut matches = vec![0_u8; size as usize].into_boxed_slice();
        // SAFETY: the struct has integers, arrays and raw pointers alone, for which zeros are valid values.
        let mut stream = unsafe { Box::<isal::isal_zstream>::new_zeroed().assume_init() };
        // SAFETY: it takes memory with any content, and writes to that struct alone.
        unsafe { isal::isal_deflate_init(&raw mut *stream) };
        stream.level = level;
        stream.level_buf = matches.as_mut_ptr();
        stream.level_buf_size = size;
        stream.flush = SYNC_FLUSH;
        Self { stream, _matches: matches }
    }

    /// Appends `plain` to `deflated` as raw deflate blocks that may refer to `window` and end at a byte's edge, without
    /// a last block. Of the window the last 32 KiB count. The result follows what was made of the window's bytes.
    ///
    /// # Errors
    /// Where ISA-L refuses a call; `deflated` is then of no use. 4 GiB or more at once is [`Error::TooLarge`].
    pub fn block(&mut self, window: &[u8], plain: &[u8], deflated: &mut Vec<u8>) -> Result<(), Error> {
        let stream = &mut *self.stream;
        // SAFETY: the stream was initialised in `new`; the reset reads and writes that struct alone.
        unsafe { isal::isal_deflate_reset(stream) };
        if !window.is_empty() {
            // SAFETY: the length is the slice's; ISA-L copies the window into the stream and keeps no pointer to it. It
            // takes `*mut`, and does not write there.
            succeeded(unsafe {
                isal::isal_deflate_set_dict(stream, window.as_ptr().cast_mut(), length(window.len())?)
            })?;
        }
        // ISA-L takes `*mut`, and does not write there.
        stream.next_in = plain.as_ptr().cast_mut();
        stream.avail_in = length(plain.len())?;
        while stream.avail_in > 0 || stream.internal_state.state != isal::isal_zstate_state_ZSTATE_NEW_HDR {
            if deflated.capacity() == deflated.len() {
                deflated.reserve(plain.len() / 16 + 64);
            }
            let free = deflated.spare_capacity_mut();
            let space = u32::try_from(free.len()).unwrap_or(u32::MAX);
            stream.next_out = free.as_mut_ptr().cast();
            stream.avail_out = space;
            let before = stream.avail_in;
            // SAFETY: `next_in` and `avail_in` describe what is left of `plain`, `next_out` and `avail_out` free memory
            // of `deflated`, and `level_buf` the memory that `self` owns. No other reference to any of them is alive.
            succeeded(unsafe { isal::isal_deflate(stream) })?;
            let written = space - stream.avail_out;
            if written == 0 && stream.avail_in == before {
                return Err(Error::NoProgress);
            }
            // SAFETY: ISA-L wrote `written` bytes from the end of what was initialised, within the capacity.
            unsafe { deflated.set_len(deflated.len() + written as usize) };
        }
        Ok(())
    }
}

fn length(bytes: usize) -> Result<u32, Error> {
    u32::try_from(bytes).map_err(|_| Error::TooLarge)
}

fn succeeded(code: i32) -> Result<(), Error> {
    if code == SUCCESS { Ok(()) } else { Err(Error::Code(code)) }
}

#[cfg(test)]
mod tests;
