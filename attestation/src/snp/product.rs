//! Which AMD processors there are, and how a report says on which one it was made.

use std::fmt;

/// The product lines of AMD's key distribution: one ARK, ASK and ASVK each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Line {
    /// Third generation (7003). Its root seed has been extracted by software: never better than a reduced tier.
    Milan,
    /// Fourth generation (9004, 8004); Bergamo and Siena belong to this line.
    Genoa,
    /// Fifth generation (9005).
    Turin,
}

impl Line {
    /// Every line this crate knows.
    pub const ALL: [Self; 3] = [Self::Milan, Self::Genoa, Self::Turin];

    /// AMD's name, as in the certificates.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    /// The product names that VEKs of this line carry [AMD 57230, "productName"].
    pub(crate) const fn product_names(self) -> &'static [&'static str] {
        match self {
            Self::Milan => &["Milan"],
            Self::Genoa => &["Genoa", "Bergamo", "Siena"],
            Self::Turin => &["Turin"],
        }
    }

    /// The length of the hardware id in bytes; in the report's `chip_id` zeros follow it.
    pub(crate) const fn hardware_id_bytes(self) -> usize {
        match self {
            Self::Milan | Self::Genoa => 64,
            Self::Turin => 8,
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A processor family, finer than [`Line`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Product {
    /// Family 0x19, models 0x00-0x0F.
    Milan,
    /// Family 0x19, models 0x10-0x1F.
    Genoa,
    /// Family 0x19, models 0xA0-0xAF.
    BergamoSiena,
    /// Family 0x1A, models 0x00-0x11.
    Turin,
}

impl Product {
    /// The line whose certificates endorse this product.
    #[must_use]
    pub const fn line(self) -> Line {
        match self {
            Self::Milan => Line::Milan,
            Self::Genoa | Self::BergamoSiena => Line::Genoa,
            Self::Turin => Line::Turin,
        }
    }
}

/// The processor as the report names it, from version 3 on: combined family, combined model, stepping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cpuid {
    /// Combined extended and base family.
    pub family: u8,
    /// Combined extended and base model.
    pub model: u8,
    /// Stepping.
    pub stepping: u8,
}

impl Cpuid {
    /// The product, or nothing for a processor that this crate does not know.
    #[must_use]
    pub const fn product(self) -> Option<Product> {
        match (self.family, self.model) {
            (0x19, 0x00..=0x0F) => Some(Product::Milan),
            (0x19, 0x10..=0x1F) => Some(Product::Genoa),
            (0x19, 0xA0..=0xAF) => Some(Product::BergamoSiena),
            (0x1A, 0x00..=0x11) => Some(Product::Turin),
            _ => None,
        }
    }
}

impl fmt::Display for Cpuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            family,
            model,
            stepping,
        } = self;
        write!(
            f,
            "family {family:#04x} model {model:#04x} stepping {stepping}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_has_the_product_of_its_range() {
        let ranges = [
            (0x19, 0x00, 0x0F, Product::Milan),
            (0x19, 0x10, 0x1F, Product::Genoa),
            (0x19, 0xA0, 0xAF, Product::BergamoSiena),
            (0x1A, 0x00, 0x11, Product::Turin),
        ];
        for family in 0..=u8::MAX {
            for model in 0..=u8::MAX {
                let expected = ranges
                    .iter()
                    .find(|(f, first, last, _)| *f == family && (*first..=*last).contains(&model))
                    .map(|(_, _, _, product)| *product);
                assert_eq!(
                    Cpuid {
                        family,
                        model,
                        stepping: 0
                    }
                    .product(),
                    expected,
                    "{family:#x} {model:#x}"
                );
            }
        }
    }
}
