//! A value and a limit, in whichever store of `valkyrie.yaml` answers.
//!
//! `cargo run -p valkyrie-store --example hybrid [FILE]`

use valkyrie_store::{HybridStoreManager, StoreAdapter, StoreConfig};

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "an example shows what it has")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "valkyrie.yaml".to_owned());
    // Load configuration
    let config = StoreConfig::from_file(file)?;

    // Create hybrid storage manager with fallback
    let storage = HybridStoreManager::new(config).await?;

    // Use storage operations
    storage
        .execute_with_fallback(|adapter| {
            Box::pin(async move {
                // Set a value
                adapter.set("my_key", b"my_value".to_vec(), None).await?;

                // Get the value
                let value = adapter.get("my_key").await?;
                println!("Retrieved: {value:?}");

                // Try to consume tokens (rate limiting)
                let consumed = adapter.try_consume("rate_limit_key", 5).await?;
                println!("Tokens consumed: {consumed}");

                Ok(())
            })
        })
        .await?;

    Ok(())
}
