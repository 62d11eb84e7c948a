//! The globals that a pickle may name, and what PyTorch's rebuild functions would make of their arguments: a
//! description of a tensor (storage, dtype, offset, shape, strides), never a call.

use super::pickle::{Object, Value, object};
use crate::error::{Error, Result};
use crate::tensor::Dtype;

/// More dimensions than PyTorch itself allows; keeps the copies of shapes small.
const MAX_RANK: usize = 64;

/// A name that a state dict may refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    /// `torch.Size`, a tuple.
    Size,
    /// `_rebuild_tensor`, `_rebuild_tensor_v2` or `_rebuild_tensor_v3`, by number.
    Tensor(u8),
    /// `_rebuild_parameter`: the tensor is its first argument.
    Parameter,
    /// A storage class and its element type; `None` is a storage of bytes.
    Storage(Option<Dtype>),
    Dtype(Dtype),
}

/// A storage as a pickle names it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage<'a> {
    pub(super) key: &'a str,
    pub(super) dtype: Option<Dtype>,
    /// Elements, or bytes where there is no dtype.
    pub(super) len: usize,
}

/// A tensor as a view of a storage. Offset and strides count elements.
#[derive(Clone, Debug)]
pub(super) struct Stored<'a> {
    pub(super) storage: Storage<'a>,
    pub(super) dtype: Dtype,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) stride: Vec<usize>,
}

/// What a call builds.
pub(super) enum Built<'a> {
    Value(Value<'a>),
    Dict(Vec<(Value<'a>, Value<'a>)>),
    Tensor(Stored<'a>),
}

/// The global `module.name`; Unsupported where it is not one that describes tensors.
pub(super) fn global(module: &str, name: &str) -> Result<Global> {
    let known = match (module, name) {
        ("collections", "OrderedDict") => Some(Global::OrderedDict),
        ("torch", "Size") => Some(Global::Size),
        ("torch._utils", "_rebuild_tensor") => Some(Global::Tensor(1)),
        ("torch._utils", "_rebuild_tensor_v2") => Some(Global::Tensor(2)),
        ("torch._utils", "_rebuild_tensor_v3") => Some(Global::Tensor(3)),
        ("torch._utils", "_rebuild_parameter") => Some(Global::Parameter),
        ("torch" | "torch.storage", "UntypedStorage") => Some(Global::Storage(None)),
        ("torch.storage", "TypedStorage") => Some(Global::Storage(None)),
        ("torch", _) => torch(name),
        _ => None,
    };
    known.ok_or_else(|| {
        let short = |text: &str| text.chars().take(80).collect::<String>();
        let what =
            format!("it refers to {}.{}, so it is not a plain state dict; ", short(module), short(name));
        Error::unsupported(what + "no code from a pickle is ever run; re-save it as safetensors")
    })
}

/// The storage classes and dtypes of the module `torch`.
fn torch(name: &str) -> Option<Global> {
    Some(match name {
        "DoubleStorage" => Global::Storage(Some(Dtype::F64)),
        "FloatStorage" => Global::Storage(Some(Dtype::F32)),
        "HalfStorage" => Global::Storage(Some(Dtype::F16)),
        "BFloat16Storage" => Global::Storage(Some(Dtype::BF16)),
        "LongStorage" => Global::Storage(Some(Dtype::I64)),
        "IntStorage" => Global::Storage(Some(Dtype::I32)),
        "ShortStorage" => Global::Storage(Some(Dtype::I16)),
        "CharStorage" => Global::Storage(Some(Dtype::I8)),
        "ByteStorage" => Global::Storage(Some(Dtype::U8)),
        "BoolStorage" => Global::Storage(Some(Dtype::BOOL)),
        "ComplexFloatStorage" => Global::Storage(Some(Dtype::C64)),
        "float64" => Global::Dtype(Dtype::F64),
        "float32" => Global::Dtype(Dtype::F32),
        "float16" => Global::Dtype(Dtype::F16),
        "bfloat16" => Global::Dtype(Dtype::BF16),
        "float8_e4m3fn" => Global::Dtype(Dtype::F8_E4M3),
        "float8_e5m2" => Global::Dtype(Dtype::F8_E5M2),
        "float8_e4m3fnuz" => Global::Dtype(Dtype::F8_E4M3FNUZ),
        "float8_e5m2fnuz" => Global::Dtype(Dtype::F8_E5M2FNUZ),
        "float8_e8m0fnu" => Global::Dtype(Dtype::F8_E8M0),
        "int64" => Global::Dtype(Dtype::I64),
        "int32" => Global::Dtype(Dtype::I32),
        "int16" => Global::Dtype(Dtype::I16),
        "int8" => Global::Dtype(Dtype::I8),
        "uint64" => Global::Dtype(Dtype::U64),
        "uint32" => Global::Dtype(Dtype::U32),
        "uint16" => Global::Dtype(Dtype::U16),
        "uint8" => Global::Dtype(Dtype::U8),
        "bool" => Global::Dtype(Dtype::BOOL),
        "complex64" => Global::Dtype(Dtype::C64),
        _ => return None,
    })
}

/// What `function(arguments)` describes.
pub(super) fn call<'a>(
    objects: &[Object<'a>],
    function: Global,
    arguments: &[Value<'a>],
) -> Result<Built<'a>> {
    match (function, arguments) {
        (Global::OrderedDict, []) => Ok(Built::Dict(Vec::new())),
        (Global::OrderedDict, [pairs]) => dict(objects, *pairs).map(Built::Dict),
        (Global::Size, [sizes]) => Ok(Built::Value(*sizes)),
        (Global::Tensor(version), _) => tensor(objects, version, arguments).map(Built::Tensor),
        (Global::Parameter, [data, ..]) if matches!(object(objects, *data), Some(Object::Tensor(_))) => {
            Ok(Built::Value(*data))
        }
        _ => Err(Error::corrupt(format!("a call of {function:?} with the wrong arguments"))),
    }
}

/// `OrderedDict([[key, value], ...])`, as Python 2 pickled it.
fn dict<'a>(objects: &[Object<'a>], list: Value<'a>) -> Result<Vec<(Value<'a>, Value<'a>)>> {
    let Some(Object::List(items)) = object(objects, list) else {
        return Err(Error::corrupt("an OrderedDict of something that is not a list"));
    };
    let pair = |item: &Value<'a>| match object(objects, *item) {
        Some(Object::List(pair) | Object::Tuple(pair)) => match pair[..] {
            [key, value] => Ok((key, value)),
            _ => Err(Error::corrupt("an item of an OrderedDict is not a pair")),
        },
        _ => Err(Error::corrupt("an item of an OrderedDict is not a pair")),
    };
    items.iter().map(pair).collect()
}

/// `_rebuild_tensor(storage, offset, size, stride[, requires_grad, hooks[, dtype][, metadata]])`.
fn tensor<'a>(objects: &[Object<'a>], version: u8, arguments: &[Value<'a>]) -> Result<Stored<'a>> {
    let wrong = || Error::corrupt("the arguments of a tensor are not what PyTorch writes");
    let [storage, offset, shape, stride, more @ ..] = arguments else { return Err(wrong()) };
    let Some(Object::Storage(storage)) = object(objects, *storage) else { return Err(wrong()) };
    let (dtype, metadata) = match (version, more) {
        (3, [_, _, Value::Global(Global::Dtype(dtype)), rest @ ..]) => (Some(*dtype), rest.first()),
        (3, _) => return Err(wrong()),
        _ => (storage.dtype, more.get(2)),
    };
    if let Some(Object::Dict(flags)) = metadata.and_then(|m| object(objects, *m))
        && flags.iter().any(|(_, flag)| matches!(flag, Value::Bool(true)))
    {
        return Err(Error::unsupported(
            "a tensor with a conjugate or negative bit; re-save it as safetensors",
        ));
    }
    let dtype = dtype.ok_or_else(|| Error::unsupported("a storage without an element type"))?;
    let (shape, stride) = (sizes(objects, *shape)?, sizes(objects, *stride)?);
    if shape.len() != stride.len() {
        return Err(Error::corrupt(format!("{} dimensions, but {} strides", shape.len(), stride.len())));
    }
    Ok(Stored { storage: *storage, dtype, offset: count(*offset)?, shape, stride })
}

/// A tuple of dimensions or strides.
fn sizes<'a>(objects: &[Object<'a>], value: Value<'a>) -> Result<Vec<usize>> {
    match object(objects, value) {
        Some(Object::Tuple(items) | Object::List(items)) if items.len() <= MAX_RANK => {
            items.iter().map(|item| count(*item)).collect()
        }
        _ => Err(Error::corrupt("the shape of a tensor is not a tuple of at most 64 numbers")),
    }
}

/// A number that counts something, so not negative.
fn count(value: Value<'_>) -> Result<usize> {
    match value {
        Value::Int(n) => {
            usize::try_from(n).map_err(|_| Error::corrupt(format!("{n} where a count is needed")))
        }
        _ => Err(Error::corrupt("something else where a count is needed")),
    }
}

/// The storage of a persistent id: `('storage', class, key, location, length[, view])`.
pub(super) fn storage<'a>(objects: &[Object<'a>], id: Value<'a>) -> Result<Storage<'a>> {
    let Some(Object::Tuple(items)) = object(objects, id) else {
        return Err(Error::corrupt("a persistent id that is not a tuple"));
    };
    match items[..] {
        [Value::Str("storage"), Value::Global(Global::Storage(dtype)), Value::Str(key), _, len]
        | [
            Value::Str("storage"),
            Value::Global(Global::Storage(dtype)),
            Value::Str(key),
            _,
            len,
            Value::None,
        ] => Ok(Storage { key, dtype, len: count(len)? }),
        [_, _, _, _, _, _] => {
            Err(Error::unsupported("a storage that is a view of another; re-save the model"))
        }
        _ => Err(Error::corrupt("a persistent id that does not name a storage")),
    }
}
