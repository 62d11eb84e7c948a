//! Tensors straight into memory that Python owns.

use delta_dct::{Error, Result};
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::{PyMemoryView, PySlice};
use rayon::prelude::*;

use crate::error::exception;
use crate::work::{self, Watch};

/// Bytes that are copied in one go, because that needs the interpreter's lock.
const PIECE: usize = 1 << 20;

/// Receives the bytes of a tensor, in order.
pub(crate) type Sink<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

/// Writable, contiguous bytes of a Python object.
struct Target {
    name: String,
    view: Py<PyMemoryView>,
    len: usize,
}

impl Target {
    /// Errors: TypeError and BufferError (not a buffer, or one of another kind), InvalidArgument (read-only).
    fn new(name: String, object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let buffer = PyBuffer::<u8>::get(object)?;
        if buffer.readonly() || !buffer.is_c_contiguous() {
            let error = Error::invalid("its buffer must be writable and contiguous").in_tensor(&name);
            return Err(exception(error));
        }
        Ok(Self { name, view: PyMemoryView::from(object)?.unbind(), len: buffer.len_bytes() })
    }

    /// Errors: Mismatch if the buffer ends before.
    fn write(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        if offset + bytes.len() > self.len {
            return Err(self.wrong_size());
        }
        let starts = (offset..).step_by(PIECE);
        starts.zip(bytes.chunks(PIECE)).try_for_each(|(start, piece)| {
            let copied = Python::attach(|py| {
                let (start, end) = (start as isize, (start + piece.len()) as isize);
                let part = self.view.bind(py).get_item(PySlice::new(py, start, end, 1))?;
                PyBuffer::<u8>::get(&part)?.copy_from_slice(py, piece)
            });
            copied.map_err(|e| Error::invalid(format!("its buffer: {e}")).in_tensor(&self.name))
        })
    }

    fn wrong_size(&self) -> Error {
        Error::mismatch(format!("its buffer has {} bytes, which is not its size", self.len))
            .in_tensor(&self.name)
    }
}

/// Fills the buffer of each name with what `stream(name, sink)` gives, several at a time.
///
/// Errors: those of `stream`; Mismatch (a buffer of another size). Buffers are then in no particular state.
pub(crate) fn fill(
    py: Python<'_>,
    buffers: Vec<(String, Bound<'_, PyAny>)>,
    stream: impl Fn(&str, &mut Sink<'_>) -> Result<()> + Sync,
) -> PyResult<()> {
    let targets = buffers.into_iter().map(|(name, object)| Target::new(name, &object));
    let targets = targets.collect::<PyResult<Vec<Target>>>()?;
    let fill_one = |watch: &Watch, target: &Target| {
        let mut offset = 0;
        stream(&target.name, &mut |bytes| {
            work::check(watch)?;
            target.write(offset, bytes)?;
            offset += bytes.len();
            Ok(())
        })?;
        if offset == target.len { Ok(()) } else { Err(target.wrong_size()) }
    };
    work::run(py, None, |watch| targets.par_iter().try_for_each(|target| fill_one(watch, target)))
}
