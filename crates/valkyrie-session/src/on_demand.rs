//! State that a connection only has while it needs it.

use std::ops::{Deref, DerefMut};

/// A value that costs a pointer until it is changed, and again after a [`rest`](Self::rest).
#[derive(Debug)]
pub(crate) struct OnDemand<T>(Option<Box<T>>);

/// What is read while nothing is there.
pub(crate) trait Resting: Default + 'static {
    /// A value in which nothing waits.
    fn resting() -> &'static Self;
    /// Whether it may be forgotten.
    fn is_resting(&self) -> bool;
}

/// A [`Resting`] whose resting value is its default, and the condition for it.
macro_rules! resting {
    ($type:ty, $value:ident, $condition:expr) => {
        impl $crate::on_demand::Resting for $type {
            fn resting() -> &'static Self {
                static RESTING: std::sync::LazyLock<$type> =
                    std::sync::LazyLock::new(<$type>::default);
                &RESTING
            }

            fn is_resting(&self) -> bool {
                let $value = self;
                $condition
            }
        }
    };
}
pub(crate) use resting;

impl<T> Default for OnDemand<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Resting> OnDemand<T> {
    /// Forgets the value if nothing waits in it.
    pub(crate) fn rest(&mut self) {
        if self.is_resting() {
            self.0 = None;
        }
    }

    /// The value, if it was needed since the last rest.
    pub(crate) fn present(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }
}

impl<T: Resting> Deref for OnDemand<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or_else(|| T::resting())
    }
}

impl<T: Resting> DerefMut for OnDemand<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.0 {
            Some(value) => value,
            empty @ None => fill(empty, Box::default),
        }
    }
}

/// Puts a value where none is yet. Out of line: whoever looks finds one almost every time.
#[cold]
#[inline(never)]
pub(crate) fn fill<T>(empty: &mut Option<Box<T>>, make: impl FnOnce() -> Box<T>) -> &mut T {
    empty.insert(make())
}
