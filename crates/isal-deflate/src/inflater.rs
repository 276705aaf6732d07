//! The way back: unpacks raw deflate piece by piece.

use isal_sys::igzip_lib as isal;

use super::{Error, length, succeeded};

/// ISA-L's state for one stream, about 90 KB.
pub struct Inflater {
    state: Box<isal::inflate_state>,
    /// After it, ISA-L's state is none that it could go on from.
    failed: Option<Error>,
}

// SAFETY: the state is owned, and the pointers in it, which are why it is not `Send` by itself, are not used before the next call has set
// them. The only globals that ISA-L writes to are the addresses of its functions for this processor, always the same ones.
unsafe impl Send for Inflater {}

impl Default for Inflater {
    fn default() -> Self {
        Self::new()
    }
}

impl Inflater {
    /// At the beginning of a stream, or of a block in it that refers to nothing before it.
    #[must_use]
    pub fn new() -> Self {
        // SAFETY: the struct has integers, arrays, a union of integers and raw pointers alone, for which zeros are valid values.
        let mut state = unsafe { Box::<isal::inflate_state>::new_zeroed().assume_init() };
        // SAFETY: it takes memory with any content, and writes to that struct alone.
        unsafe { isal::isal_inflate_init(&raw mut *state) };
        Self { state, failed: None }
    }

    /// Appends to `inflated` what the next bytes unpack to, as far as its capacity goes, and returns how many of them were read.
    /// What did not fit comes with the next call, which may have no bytes.
    ///
    /// # Errors
    /// The stream is damaged; every later call has the same error. 4 GiB or more at once is [`Error::TooLarge`].
    pub fn inflate(&mut self, deflated: &[u8], inflated: &mut Vec<u8>) -> Result<usize, Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let state = &mut *self.state;
        // ISA-L takes `*mut`, and does not write there.
        state.next_in = deflated.as_ptr().cast_mut();
        state.avail_in = length(deflated.len())?;
        let free = inflated.spare_capacity_mut();
        let space = u32::try_from(free.len()).unwrap_or(u32::MAX);
        state.next_out = free.as_mut_ptr().cast();
        state.avail_out = space;
        // SAFETY: `next_in` and `avail_in` describe `deflated`, `next_out` and `avail_out` free memory of `inflated`. No other reference
        // to any of them is alive.
        succeeded(unsafe { isal::isal_inflate(state) }).inspect_err(|error| self.failed = Some(*error))?;
        let written = space - state.avail_out;
        // SAFETY: ISA-L wrote `written` bytes from the end of what was initialised, within the capacity.
        unsafe { inflated.set_len(inflated.len() + written as usize) };
        Ok(deflated.len() - state.avail_in as usize)
    }

    /// Whether the last block has ended, and all that it unpacks to was returned.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.state.block_state == isal::isal_block_state_ISAL_BLOCK_FINISH
    }

    /// How many of the bytes that were read follow the last block: ISA-L reads up to 8 ahead.
    #[must_use]
    pub fn read_beyond_end(&self) -> usize {
        if self.has_ended() { usize::try_from(self.state.read_in_length).unwrap_or_default() / 8 } else { 0 }
    }
}
