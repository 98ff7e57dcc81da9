//! Lists that come page by page.

use super::failure::Failure;

/// The most items that are gathered.
const MAX_ITEMS: usize = 100_000;

/// Gathers all pages; `page` gets the page token and yields the items and the next one.
pub(crate) async fn all_pages<T>(
    mut page: impl AsyncFnMut(String) -> Result<(Vec<T>, String), Failure>,
) -> Result<Vec<T>, Failure> {
    let mut all = Vec::new();
    let mut page_token = String::new();
    loop {
        let (items, next) = page(page_token.clone()).await?;
        // An empty page that names another would let a server keep us for ever.
        let stands_still = next == page_token || items.is_empty();
        all.extend(items);
        if next.is_empty() {
            return Ok(all);
        }
        if stands_still || all.len() > MAX_ITEMS {
            return Err(Failure::answer("the server's list does not end"));
        }
        page_token = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;

    async fn gather(pages: &[(&[u8], &str)]) -> Result<Vec<u8>, Failure> {
        let mut asked = pages.iter();
        all_pages(async |_token| {
            let (items, next) = asked.next().copied().unwrap_or((&[], ""));
            Ok((items.to_vec(), next.to_owned()))
        })
        .await
    }

    #[tokio::test]
    async fn pages_are_joined_until_the_last() {
        assert!(gather(&[(&[], "")]).await.unwrap().is_empty());
        let found = gather(&[(&[1, 2], "a"), (&[3], "b"), (&[4], "")]).await;
        assert_eq!(found.unwrap(), [1, 2, 3, 4]);
    }

    #[tokio::test]
    async fn a_list_that_does_not_end_is_refused() {
        for pages in [
            &[(&[1][..], "a"), (&[2], "a")][..],
            &[(&[1], "a"), (&[], "b"), (&[2], "")],
        ] {
            assert_eq!(gather(pages).await.unwrap_err().exit(), Exit::Refused);
        }
    }
}
