//! stub
use super::wavelet::Wavelet;
use crate::error::{Error, Result};
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Keep { All }
impl std::fmt::Display for Keep { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("all") } }
impl std::str::FromStr for Keep { type Err = Error; fn from_str(_: &str) -> Result<Self> { Ok(Keep::All) } }
impl Keep { pub(crate) fn from_id(_: u8) -> Result<Self> { Ok(Keep::All) } }
pub(crate) struct Band { pub(crate) rows: usize, pub(crate) cols: usize }
impl Band { pub(crate) fn is_detail(&self) -> bool { true } }
#[derive(Debug)]
pub(crate) struct Dwt { wavelet: Wavelet }
impl Dwt {
    pub(crate) fn new(_: usize, _: Wavelet, _: usize, _: Keep) -> Result<Self> { Err(Error::unsupported("dwt")) }
    pub(crate) fn block(&self) -> usize { 0 }
    pub(crate) fn levels(&self) -> usize { 0 }
    pub(crate) fn coefficients(&self) -> usize { 0 }
    pub(crate) fn keep(&self) -> Keep { Keep::All }
    pub(crate) fn wavelet(&self) -> &Wavelet { &self.wavelet }
    pub(crate) fn bands(&self) -> &[Band] { &[] }
    pub(crate) fn forward(&self, _: &[f32], _: &mut [f32]) {}
    pub(crate) fn inverse(&self, _: &[f32], _: &mut [f32]) {}
}
