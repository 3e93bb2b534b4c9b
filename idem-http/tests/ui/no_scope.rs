fn layer(engine: idem_core::Engine) -> idem_http::IdempotencyLayer {
    idem_http::IdempotencyLayer::builder(engine).require_key().build()
}

fn main() {}
