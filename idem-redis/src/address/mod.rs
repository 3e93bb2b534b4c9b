//! [`Address`]: the servers of a URL, and the logins for them.

mod endpoint;
#[cfg(test)]
mod tests;
mod url;

pub(crate) use self::endpoint::{Endpoint, Login};
pub(crate) use self::url::{Address, AddressError, Servers};
