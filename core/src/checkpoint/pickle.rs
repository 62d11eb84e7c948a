//! Reads the pickles that PyTorch writes as plain data. Nothing is ever imported or called: a pickle can only
//! name the few globals that describe tensors ([`super::rebuild`]), and any other name is an error.
//!
//! Work and memory are bounded by the length of the input: every opcode is at least one byte and adds at most
//! one value, there is no recursion, and no length is trusted before its bytes are there.

use std::collections::HashMap;

use super::rebuild::{self, Global, Storage, Stored};
use crate::error::{Error, Result};
use crate::wire::Reader;

/// A pickled value. Containers and tensors lie in [`Pickle::objects`], because a pickle can refer to them again
/// (and change them) later.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    Str(&'a str),
    /// Anything else that holds no tensors: floats, bytes, integers of more than 64 bits.
    Opaque,
    Global(Global),
    /// Index into [`Pickle::objects`].
    Object(usize),
}

/// What a [`Value::Object`] refers to.
#[derive(Debug)]
pub(super) enum Object<'a> {
    Tuple(Vec<Value<'a>>),
    List(Vec<Value<'a>>),
    Dict(Vec<(Value<'a>, Value<'a>)>),
    Storage(Storage<'a>),
    Tensor(Box<Stored<'a>>),
}

/// A pickle that was read to its end.
pub(super) struct Pickle<'a> {
    pub(super) root: Value<'a>,
    pub(super) objects: Vec<Object<'a>>,
    /// Bytes of the input that the pickle took.
    pub(super) len: usize,
}

impl<'a> Pickle<'a> {
    /// Reads one pickle from the front of `bytes`.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self> {
        let mut machine = Machine::new(bytes);
        loop {
            let at = bytes.len() - machine.rest.0.len();
            match machine.step(bytes.len()) {
                Ok(None) => {}
                Ok(Some(root)) => {
                    let len = bytes.len() - machine.rest.0.len();
                    return Ok(Self { root, objects: machine.objects, len });
                }
                Err(e) => return Err(Error::new(e.kind(), format!("pickle, byte {at}: {e}"))),
            }
        }
    }

    /// What `value` refers to, if it is an object.
    pub(super) fn object(&self, value: Value<'a>) -> Option<&Object<'a>> {
        object(&self.objects, value)
    }

    /// The pairs of `value`, if it is a dict.
    pub(super) fn dict(&self, value: Value<'a>) -> Option<&[(Value<'a>, Value<'a>)]> {
        match self.object(value) {
            Some(Object::Dict(pairs)) => Some(pairs),
            _ => None,
        }
    }
}

/// What `value` refers to in `objects`.
pub(super) fn object<'o, 'a>(objects: &'o [Object<'a>], value: Value<'a>) -> Option<&'o Object<'a>> {
    match value {
        Value::Object(index) => objects.get(index),
        _ => None,
    }
}

/// The state of the pickle machine: a stack with marks, and a memo of values to refer to again.
struct Machine<'a> {
    rest: Reader<'a>,
    stack: Vec<Value<'a>>,
    marks: Vec<usize>,
    memo: HashMap<usize, Value<'a>>,
    objects: Vec<Object<'a>>,
    /// Items that were copied out of lists; bounded by the input's length.
    copied: usize,
}

impl<'a> Machine<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let (stack, marks, objects) = (Vec::new(), Vec::new(), Vec::new());
        Self { rest: Reader(bytes), stack, marks, memo: HashMap::new(), objects, copied: 0 }
    }

    /// Runs one opcode; gives the root at the end of the pickle.
    fn step(&mut self, limit: usize) -> Result<Option<Value<'a>>> {
        let opcode = self.rest.u8("a pickle")?;
        match opcode {
            b'.' => return self.pop().map(Some),
            0x80 => self.protocol()?,
            0x95 => drop(self.rest.take(8, "a pickle frame")?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_to_mark()?),
            b'2' => {
                let top = self.pop()?;
                self.stack.extend([top, top]);
            }
            b'h' | b'q' | b'j' | b'r' | 0x94 => self.memo(opcode)?,
            b'c' | 0x93 => self.global(opcode)?,
            b'R' | 0x81 => self.call(limit)?,
            // The state of an object (the `_metadata` of a state dict) holds no tensors.
            b'b' => drop(self.pop()?),
            b'Q' => {
                let id = self.pop()?;
                let storage = rebuild::storage(&self.objects, id)?;
                self.push_object(Object::Storage(storage));
            }
            b')' | b't' | 0x85..=0x87 => self.tuple(opcode)?,
            b']' | b'}' | b'l' | b'd' | 0x8f | 0x91 => self.container(opcode)?,
            b'a' | b'e' | b's' | b'u' | 0x90 => self.fill(opcode)?,
            _ => self.scalar(opcode)?,
        }
        Ok(None)
    }

    fn protocol(&mut self) -> Result<()> {
        match self.rest.u8("a pickle")? {
            2..=5 => Ok(()),
            other => {
                Err(Error::unsupported(format!("pickle protocol {other}; re-save the model as safetensors")))
            }
        }
    }

    fn pop(&mut self) -> Result<Value<'a>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(Error::corrupt("nothing on the stack"));
        }
        self.stack.pop().ok_or_else(|| Error::corrupt("nothing on the stack"))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value<'a>>> {
        let mark = self.marks.pop().ok_or_else(|| Error::corrupt("no mark on the stack"))?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn push_object(&mut self, object: Object<'a>) {
        self.stack.push(Value::Object(self.objects.len()));
        self.objects.push(object);
    }

    /// `len` bytes whose count is a little-endian number of `width` bytes in front of them.
    fn sized(&mut self, width: usize) -> Result<&'a [u8]> {
        let len = self.unsigned(width)?;
        let len = usize::try_from(len).map_err(|_| Error::truncated("a pickle"))?;
        self.rest.take(len, "a pickle")
    }

    fn unsigned(&mut self, width: usize) -> Result<u64> {
        let bytes = self.rest.take(width, "a pickle")?;
        Ok(bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    /// Pushes a number, string or constant.
    fn scalar(&mut self, opcode: u8) -> Result<()> {
        let value = match opcode {
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'K' => Value::Int(self.unsigned(1)? as i64),
            b'M' => Value::Int(self.unsigned(2)? as i64),
            b'J' => Value::Int(i64::from(self.unsigned(4)? as u32 as i32)),
            0x8a => integer(self.sized(1)?),
            0x8b => integer(self.sized(4)?),
            b'G' => {
                self.rest.take(8, "a pickle")?;
                Value::Opaque
            }
            b'X' => text(self.sized(4)?)?,
            0x8c => text(self.sized(1)?)?,
            0x8d => text(self.sized(8)?)?,
            // Byte strings of Python 2: names, where they are text.
            b'T' => text(self.sized(4)?).unwrap_or(Value::Opaque),
            b'U' => text(self.sized(1)?).unwrap_or(Value::Opaque),
            b'B' | b'C' | 0x8e | 0x96 => {
                self.sized(match opcode {
                    b'B' => 4,
                    b'C' => 1,
                    _ => 8,
                })?;
                Value::Opaque
            }
            _ => {
                return Err(Error::unsupported(format!(
                    "opcode {opcode:#04x} is not one that PyTorch writes"
                )));
            }
        };
        self.stack.push(value);
        Ok(())
    }

    fn memo(&mut self, opcode: u8) -> Result<()> {
        let index = match opcode {
            b'h' | b'q' => self.unsigned(1)?,
            b'j' | b'r' => self.unsigned(4)?,
            _ => self.memo.len() as u64,
        } as usize;
        if matches!(opcode, b'h' | b'j') {
            let value = self.memo.get(&index).copied();
            self.stack.push(value.ok_or_else(|| Error::corrupt(format!("no memo {index}")))?);
        } else {
            let top = self.pop()?;
            self.stack.push(top);
            self.memo.insert(index, top);
        }
        Ok(())
    }

    fn global(&mut self, opcode: u8) -> Result<()> {
        let (module, name) = if opcode == b'c' {
            (self.line()?, self.line()?)
        } else {
            let (name, module) = (self.pop()?, self.pop()?);
            match (module, name) {
                (Value::Str(module), Value::Str(name)) => (module, name),
                _ => return Err(Error::corrupt("the name of a global is not text")),
            }
        };
        self.stack.push(Value::Global(rebuild::global(module, name)?));
        Ok(())
    }

    fn line(&mut self) -> Result<&'a str> {
        let end = self.rest.0.iter().position(|&b| b == b'\n').ok_or_else(|| Error::truncated("a pickle"))?;
        let line = self.rest.take(end, "a pickle")?;
        self.rest.take(1, "a pickle")?;
        std::str::from_utf8(line).map_err(|_| Error::corrupt("a global's name is not UTF-8"))
    }

    /// What calling a known global would build, as data.
    fn call(&mut self, limit: usize) -> Result<()> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let (Value::Global(function), Some(Object::Tuple(arguments))) =
            (function, object(&self.objects, arguments))
        else {
            return Err(Error::corrupt("a call of something that is not a global"));
        };
        match rebuild::call(&self.objects, function, arguments)? {
            rebuild::Built::Value(value) => self.stack.push(value),
            rebuild::Built::Tensor(tensor) => self.push_object(Object::Tensor(Box::new(tensor))),
            rebuild::Built::Dict(pairs) => {
                self.copied = self.copied.saturating_add(pairs.len());
                if self.copied > limit {
                    return Err(Error::limit("lists are copied into dicts more often than makes sense"));
                }
                self.push_object(Object::Dict(pairs));
            }
        }
        Ok(())
    }

    fn tuple(&mut self, opcode: u8) -> Result<()> {
        let items = match opcode {
            b')' => Vec::new(),
            b't' => self.pop_to_mark()?,
            _ => {
                let mut items = Vec::with_capacity(3);
                for _ in 0x84..opcode {
                    items.push(self.pop()?);
                }
                items.reverse();
                items
            }
        };
        self.push_object(Object::Tuple(items));
        Ok(())
    }

    /// Pushes a list, dict or set (as a list), empty or from the items above the mark.
    fn container(&mut self, opcode: u8) -> Result<()> {
        let object = match opcode {
            b']' | 0x8f => Object::List(Vec::new()),
            b'}' => Object::Dict(Vec::new()),
            b'd' => Object::Dict(pairs(&self.pop_to_mark()?)?),
            _ => Object::List(self.pop_to_mark()?),
        };
        self.push_object(object);
        Ok(())
    }

    /// Puts the items above the mark (or the one or two on top) into the container below them.
    fn fill(&mut self, opcode: u8) -> Result<()> {
        let items = match opcode {
            b'a' => vec![self.pop()?],
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                vec![key, value]
            }
            _ => self.pop_to_mark()?,
        };
        let container = self.pop()?;
        self.stack.push(container);
        let Value::Object(index) = container else {
            return Err(Error::corrupt("items for something that is not a container"));
        };
        match (self.objects.get_mut(index), opcode) {
            (Some(Object::Dict(dict)), b's' | b'u') => dict.extend(pairs(&items)?),
            (Some(Object::List(list)), b'a' | b'e' | 0x90) => list.extend(items),
            _ => return Err(Error::corrupt("items for something that is not their container")),
        }
        Ok(())
    }
}

/// Key, value, key, value ... as pairs.
fn pairs<'a>(items: &[Value<'a>]) -> Result<Vec<(Value<'a>, Value<'a>)>> {
    let (pairs, rest) = items.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Error::corrupt("a key without a value"));
    }
    Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
}

/// Little-endian two's complement of any length.
fn integer(bytes: &[u8]) -> Value<'_> {
    let negative = bytes.last().is_some_and(|&b| b >= 0x80);
    let mut padded = [if negative { 0xff } else { 0 }; 8];
    match padded.get_mut(..bytes.len()) {
        Some(low) => {
            low.copy_from_slice(bytes);
            Value::Int(i64::from_le_bytes(padded))
        }
        None => Value::Opaque,
    }
}

fn text(bytes: &[u8]) -> Result<Value<'_>> {
    std::str::from_utf8(bytes).map(Value::Str).map_err(|_| Error::corrupt("a string is not UTF-8"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// `OrderedDict(a=t, b=[None, t, "é", 1.5], c={7: False, "self": t, "d": ()})` with
    /// `t = (1, -5, 70000, 2**40, -2**40, True)`, as Python's pickle module writes it.
    const PROTOCOL_2: &[u8] = b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01(X\x01\x00\x00\x00aq\x02(K\x01\
        J\xfb\xff\xff\xffJp\x11\x01\x00\x8a\x06\x00\x00\x00\x00\x00\x01\x8a\x06\x00\x00\x00\x00\x00\xff\x88tq\x03\
        X\x01\x00\x00\x00bq\x04]q\x05(Nh\x03X\x02\x00\x00\x00\xc3\xa9q\x06G?\xf8\x00\x00\x00\x00\x00\x00e\
        X\x01\x00\x00\x00cq\x07}q\x08(K\x07\x89X\x04\x00\x00\x00selfq\th\x03X\x01\x00\x00\x00dq\n)uu.";
    const PROTOCOL_4: &[u8] = b"\x80\x04\x95z\x00\x00\x00\x00\x00\x00\x00\x8c\x0bcollections\x94\
        \x8c\x0bOrderedDict\x94\x93\x94)R\x94(\x8c\x01a\x94(K\x01J\xfb\xff\xff\xffJp\x11\x01\x00\
        \x8a\x06\x00\x00\x00\x00\x00\x01\x8a\x06\x00\x00\x00\x00\x00\xff\x88t\x94\x8c\x01b\x94]\x94(Nh\x05\
        \x8c\x02\xc3\xa9\x94G?\xf8\x00\x00\x00\x00\x00\x00e\x8c\x01c\x94}\x94(K\x07\x89\x8c\x04self\x94h\x05\
        \x8c\x01d\x94)uu.";

    /// A value in the notation of Python.
    fn show(pickle: &Pickle<'_>, value: Value<'_>) -> String {
        let all = |items: &[Value<'_>]| items.iter().map(|v| show(pickle, *v)).collect::<Vec<_>>().join(", ");
        match (value, pickle.object(value)) {
            (_, Some(Object::Tuple(items))) => format!("({})", all(items)),
            (_, Some(Object::List(items))) => format!("[{}]", all(items)),
            (_, Some(Object::Dict(pairs))) => {
                let pair = |(k, v): &(_, _)| format!("{}: {}", show(pickle, *k), show(pickle, *v));
                format!("{{{}}}", pairs.iter().map(pair).collect::<Vec<_>>().join(", "))
            }
            (Value::Int(n), _) => n.to_string(),
            (Value::Str(text), _) => text.to_owned(),
            (other, _) => format!("{other:?}"),
        }
    }

    #[test]
    fn protocols_2_and_4_give_the_values_that_python_wrote() {
        let t = "(1, -5, 70000, 1099511627776, -1099511627776, Bool(true))";
        let expected =
            format!("{{a: {t}, b: [None, {t}, é, Opaque], c: {{7: Bool(false), self: {t}, d: ()}}}}");
        for bytes in [PROTOCOL_2, PROTOCOL_4] {
            let more = [bytes, b"more"].concat();
            let pickle = Pickle::read(&more).unwrap();
            assert_eq!(show(&pickle, pickle.root), expected);
            assert_eq!(pickle.len, bytes.len());
        }
    }

    #[test]
    fn broken_machines_are_errors() {
        let cases: [&[u8]; 12] = [
            b"",
            b"\x80\x02",
            b"\x80\x09N.",
            b".",
            b"t.",
            b"N(0.",
            b"h\x05.",
            b"NNs.",
            b"}Na.",
            b"](NNu.",
            b"NNR.",
            b"X\xff\xff\xff\xffa.",
        ];
        for bytes in cases {
            assert!(Pickle::read(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn lists_are_not_copied_without_end() {
        // OrderedDict(list of 50 pairs), again and again from the memo.
        let again = b"ccollections\nOrderedDict\nh\x00\x85R0".repeat(99);
        let bytes = [b"]q\x00(", &b"NN\x86".repeat(50)[..], b"e0", &again, b"N."].concat();
        let error = Pickle::read(&bytes).err().unwrap();
        assert_eq!(error.kind(), crate::error::ErrorKind::Limit);
    }
}
