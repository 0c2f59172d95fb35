//! Writes `kafka-wire/src/generated/`.
use crate::Result;
use crate::schema::Schemas;
pub(crate) fn render(_: &Schemas) -> Result<Vec<(String, String)>> {
    Ok(vec![])
}
