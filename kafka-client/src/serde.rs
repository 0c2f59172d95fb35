//! How keys and values become bytes and back: [`Serialize`] for records sent, [`Deserialize`] for records read.

use bytes::Bytes;

/// Any error of user code, boxed.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// A record's key or value on its way out.
///
/// Bytes and text are handed on without a copy; other types write into `scratch`, a buffer that is used again for the
/// next record. `None` is Kafka's null: no key, or a tombstone.
///
/// ```
/// use kafka_client::serde::{BoxError, Serialize};
///
/// struct Celsius(f64);
///
/// impl Serialize for Celsius {
///     fn serialize<'a>(&'a self, scratch: &'a mut Vec<u8>) -> Result<Option<&'a [u8]>, BoxError> {
///         scratch.extend_from_slice(&self.0.to_be_bytes());
///         Ok(Some(scratch))
///     }
/// }
/// ```
pub trait Serialize {
    /// The bytes, or `None` for null. `scratch` arrives empty.
    ///
    /// # Errors
    /// Whatever the type finds wrong with its value; the record is then not sent.
    fn serialize<'a>(&'a self, scratch: &'a mut Vec<u8>) -> Result<Option<&'a [u8]>, BoxError>;

    /// Whether [`serialize`](Self::serialize) writes into `scratch`. A type that never does can say so, and a buffer need
    /// not be fetched for it; one that says so wrongly allocates for every record.
    fn uses_scratch(&self) -> bool {
        true
    }
}

/// A record's key or value on its way in.
pub trait Deserialize: Sized {
    /// Reads the value; `None` is Kafka's null.
    ///
    /// # Errors
    /// Whatever the type finds wrong with the bytes.
    fn deserialize(bytes: Option<Bytes>) -> Result<Self, BoxError>;
}

/// No key, or no value.
impl Serialize for () {
    #[inline]
    fn serialize<'a>(&'a self, _: &'a mut Vec<u8>) -> Result<Option<&'a [u8]>, BoxError> {
        Ok(None)
    }

    #[inline]
    fn uses_scratch(&self) -> bool {
        false
    }
}

macro_rules! serialize_as_bytes {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            #[inline]
            fn serialize<'a>(&'a self, _: &'a mut Vec<u8>) -> Result<Option<&'a [u8]>, BoxError> {
                Ok(Some(self.as_ref()))
            }

            #[inline]
            fn uses_scratch(&self) -> bool {
                false
            }
        }
    )*};
}
serialize_as_bytes!([u8], Vec<u8>, Bytes, str, String);

impl<const N: usize> Serialize for [u8; N] {
    #[inline]
    fn serialize<'a>(&'a self, _: &'a mut Vec<u8>) -> Result<Option<&'a [u8]>, BoxError> {
        Ok(Some(self))
    }

    #[inline]
    fn uses_scratch(&self) -> bool {
        false
    }
}

impl<T: Serialize + ?Sized> Serialize for &T {
    #[inline]
    fn serialize<'a>(&'a self, scratch: &'a mut Vec<u8>) -> Result<Option<&'a [u8]>, BoxError> {
        (**self).serialize(scratch)
    }

    #[inline]
    fn uses_scratch(&self) -> bool {
        (**self).uses_scratch()
    }
}

impl<T: Serialize + ?Sized> Serialize for Box<T> {
    #[inline]
    fn serialize<'a>(&'a self, scratch: &'a mut Vec<u8>) -> Result<Option<&'a [u8]>, BoxError> {
        (**self).serialize(scratch)
    }

    #[inline]
    fn uses_scratch(&self) -> bool {
        (**self).uses_scratch()
    }
}

impl<T: Serialize + ?Sized> Serialize for std::sync::Arc<T> {
    #[inline]
    fn serialize<'a>(&'a self, scratch: &'a mut Vec<u8>) -> Result<Option<&'a [u8]>, BoxError> {
        (**self).serialize(scratch)
    }

    #[inline]
    fn uses_scratch(&self) -> bool {
        (**self).uses_scratch()
    }
}

impl<T: Serialize + ToOwned + ?Sized> Serialize for std::borrow::Cow<'_, T> {
    #[inline]
    fn serialize<'a>(&'a self, scratch: &'a mut Vec<u8>) -> Result<Option<&'a [u8]>, BoxError> {
        (**self).serialize(scratch)
    }

    #[inline]
    fn uses_scratch(&self) -> bool {
        (**self).uses_scratch()
    }
}

/// `None` is null.
impl<T: Serialize> Serialize for Option<T> {
    #[inline]
    fn serialize<'a>(&'a self, scratch: &'a mut Vec<u8>) -> Result<Option<&'a [u8]>, BoxError> {
        match self {
            Some(value) => value.serialize(scratch),
            None => Ok(None),
        }
    }

    #[inline]
    fn uses_scratch(&self) -> bool {
        self.as_ref().is_some_and(T::uses_scratch)
    }
}

/// Ignores whatever is there.
impl Deserialize for () {
    fn deserialize(_: Option<Bytes>) -> Result<Self, BoxError> {
        Ok(())
    }
}

impl Deserialize for Bytes {
    fn deserialize(bytes: Option<Bytes>) -> Result<Self, BoxError> {
        bytes.ok_or_else(null)
    }
}

impl Deserialize for Vec<u8> {
    fn deserialize(bytes: Option<Bytes>) -> Result<Self, BoxError> {
        Ok(bytes.ok_or_else(null)?.into())
    }
}

impl Deserialize for String {
    fn deserialize(bytes: Option<Bytes>) -> Result<Self, BoxError> {
        Ok(String::from_utf8(bytes.ok_or_else(null)?.into())?)
    }
}

impl<const N: usize> Deserialize for [u8; N] {
    fn deserialize(bytes: Option<Bytes>) -> Result<Self, BoxError> {
        let bytes = bytes.ok_or_else(null)?;
        bytes[..].try_into().map_err(|_| format!("{} bytes where {N} were expected", bytes.len()).into())
    }
}

/// Null is `None`.
impl<T: Deserialize> Deserialize for Option<T> {
    fn deserialize(bytes: Option<Bytes>) -> Result<Self, BoxError> {
        bytes.map(|bytes| T::deserialize(Some(bytes))).transpose()
    }
}

/// A value written and read as JSON through serde.
#[cfg(feature = "json")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Json<T>(pub T);

#[cfg(feature = "json")]
impl<T: ::serde::Serialize> Serialize for Json<T> {
    #[inline]
    fn serialize<'a>(&'a self, scratch: &'a mut Vec<u8>) -> Result<Option<&'a [u8]>, BoxError> {
        serde_json::to_writer(&mut *scratch, &self.0)?;
        Ok(Some(scratch))
    }
}

#[cfg(feature = "json")]
impl<T: ::serde::de::DeserializeOwned> Deserialize for Json<T> {
    fn deserialize(bytes: Option<Bytes>) -> Result<Self, BoxError> {
        Ok(Self(serde_json::from_slice(&bytes.ok_or_else(null)?)?))
    }
}

fn null() -> BoxError {
    "null where a value was expected".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(value: &(impl Serialize + ?Sized)) -> Option<Vec<u8>> {
        value.serialize(&mut Vec::new()).unwrap().map(<[u8]>::to_vec)
    }

    #[test]
    fn bytes_and_text_are_handed_on_without_a_copy() {
        let text = String::from("paid");
        let mut scratch = Vec::new();
        let bytes = text.serialize(&mut scratch).unwrap().unwrap();
        assert_eq!(bytes.as_ptr(), text.as_ptr());
        assert_eq!(bytes, b"paid");
    }

    #[test]
    fn whoever_says_so_needs_no_scratch() {
        struct Written;
        impl Serialize for Written {
            fn serialize<'a>(&'a self, scratch: &'a mut Vec<u8>) -> Result<Option<&'a [u8]>, BoxError> {
                scratch.push(1);
                Ok(Some(scratch))
            }
        }
        assert!(Written.uses_scratch() && Some(&Written).uses_scratch());
        assert!(!None::<Written>.uses_scratch() && !().uses_scratch());
        assert!(
            !"text".uses_scratch() && !Some(Box::new(vec![1_u8])).uses_scratch() && ![0_u8; 2].uses_scratch()
        );
    }

    #[test]
    fn unit_and_none_are_null_and_nothing_else_is() {
        assert_eq!(bytes_of(&()), None);
        assert_eq!(bytes_of(&None::<&str>), None);
        assert_eq!(bytes_of(&Some("")), Some(vec![]));
        assert_eq!(bytes_of(""), Some(vec![]));
        assert_eq!(bytes_of(b"ab"), Some(b"ab".to_vec()));
    }

    #[test]
    fn null_is_an_error_for_types_that_cannot_be_null() {
        assert!(Bytes::deserialize(None).is_err());
        assert!(String::deserialize(None).is_err());
        assert_eq!(Option::<String>::deserialize(None).unwrap(), None);
        assert_eq!(String::deserialize(Some(Bytes::from_static(b"x"))).unwrap(), "x");
        assert!(String::deserialize(Some(Bytes::from_static(b"\xff"))).is_err());
        assert!(<[u8; 4]>::deserialize(Some(Bytes::from_static(b"123"))).is_err());
    }

    #[cfg(feature = "json")]
    #[test]
    fn json_reads_what_it_wrote() {
        let bytes = bytes_of(&Json(vec![1, 2, 3])).unwrap();
        assert_eq!(bytes, b"[1,2,3]");
        assert_eq!(Json::<Vec<i32>>::deserialize(Some(bytes.into())).unwrap(), Json(vec![1, 2, 3]));
        assert!(Json::<Vec<i32>>::deserialize(Some(Bytes::from_static(b"{"))).is_err());
    }
}
