use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

/// The bytes of a reply: slices that are sent one after the other, in one write.
///
/// No conversion copies bytes, and none from up to three static slices allocates.
///
/// ```
/// use bytes::Bytes;
/// use lmi_runtime::Reply;
///
/// let one = Reply::from(r#"{"greeting": "hello"}"#);
/// let owned = Reply::from(String::from("[1, 2]"));
/// let several = Reply::from([&b"[1, "[..], b"2", b"]"]);
/// let many: Reply = ["[", "1", ", ", "2", "]"].map(Bytes::from).into_iter().collect();
/// # let _ = (one, owned, several, many);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Reply(SmallVec<[Bytes; 3]>);

impl Reply {
    pub(crate) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|slice| &**slice)
    }

    /// In bytes.
    pub(crate) fn len(&self) -> usize {
        self.slices().map(<[u8]>::len).sum()
    }
}

impl<const N: usize> From<[&'static [u8]; N]> for Reply {
    fn from(slices: [&'static [u8]; N]) -> Self {
        slices.map(Bytes::from_static).into_iter().collect()
    }
}

impl From<&'static [u8]> for Reply {
    fn from(bytes: &'static [u8]) -> Self {
        Bytes::from_static(bytes).into()
    }
}

impl From<&'static str> for Reply {
    fn from(text: &'static str) -> Self {
        text.as_bytes().into()
    }
}

impl From<Vec<u8>> for Reply {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<String> for Reply {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<Bytes> for Reply {
    fn from(bytes: Bytes) -> Self {
        Self(smallvec![bytes])
    }
}

impl FromIterator<Bytes> for Reply {
    fn from_iter<I: IntoIterator<Item = Bytes>>(slices: I) -> Self {
        Self(slices.into_iter().collect())
    }
}
