//! [`Panics`]: the panic messages of one case.

use std::cell::RefCell;
use std::panic::{set_hook, take_hook};
use std::sync::{Arc, Mutex, Once, PoisonError};

/// Collects the panics of one case in place of printing them: some are on purpose, and the others belong to the report.
#[derive(Clone, Default)]
pub(super) struct Panics {
    messages: Arc<Mutex<Vec<String>>>,
}

thread_local! {
    static LISTENER: RefCell<Option<Panics>> = const { RefCell::new(None) };
}

impl Panics {
    pub(super) fn listen_on_this_thread(&self) {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let default = take_hook();
            set_hook(Box::new(move |info| {
                let listener = LISTENER.with(|listener| listener.borrow().clone());
                match listener {
                    Some(panics) => {
                        let mut messages = panics.messages.lock().unwrap_or_else(PoisonError::into_inner);
                        messages.push(info.to_string());
                    }
                    None => default(info),
                }
            }));
        });
        LISTENER.with(|listener| *listener.borrow_mut() = Some(self.clone()));
    }

    pub(super) fn report(&self) -> String {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }
}
