//! A person in a browser at npm's oidc-provider: signs in, consents to what is shown, and is sent back.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a page that cannot be read fails the test"
)]

use std::collections::BTreeMap;

use http::{Method, header};
use testkit::fetch::{Answer, fetch};

/// As many pages and redirections as a consent may take.
const MAX_STEPS: usize = 20;

/// A browser with the cookies of one person.
#[derive(Debug)]
pub struct Browser {
    user: String,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    /// Somebody's.
    #[must_use]
    pub fn of(user: &str) -> Self {
        Self {
            user: user.to_owned(),
            cookies: BTreeMap::new(),
        }
    }

    /// Follows a link through the provider's pages, and gives the URL that leads back to `back`.
    ///
    /// # Panics
    /// The provider shows something else.
    pub async fn consent(&mut self, url: &str, back: &str) -> String {
        let mut next = (Method::GET, url.to_owned(), String::new());
        for _ in 0..MAX_STEPS {
            let (method, url, body) = next;
            let answer = self.send(method, &url, &body).await;
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            if answer.status.is_redirection() {
                let location = answer.headers.get(header::LOCATION);
                let location = location.and_then(|location| location.to_str().ok());
                let location = location.expect("a redirection leads somewhere");
                let base: url::Url = url.parse().expect("a URL");
                let to = base.join(location).expect("a URL").to_string();
                if to.starts_with(back) {
                    return to;
                }
                next = (Method::GET, to, String::new());
                continue;
            }
            assert_eq!(answer.status, 200, "{url}: {text}");
            let form = text
                .split("<form")
                .nth(1)
                .unwrap_or_else(|| panic!("{url} has no form: {text}"));
            let attribute = |name: &str| {
                let (_, rest) = form.split_once(&format!("{name}=\""))?;
                rest.split_once('"').map(|(value, _)| value.to_owned())
            };
            let action = attribute("action").expect("an action");
            let body = if form.contains("name=\"prompt\" value=\"login\"") {
                format!("prompt=login&login={}&password=x", self.user)
            } else {
                "prompt=consent".to_owned()
            };
            next = (Method::POST, action, body);
        }
        panic!("the provider does not come to an end");
    }

    /// Follows the link of a device [RFC 8628 §3.3.1] through the provider's pages, saying yes or no where the device is
    /// shown. Gives the last page's status and text.
    ///
    /// # Panics
    /// The provider does not come to an end.
    pub async fn at_device(&mut self, url: &str, yes: bool) -> (u16, String) {
        let mut next = (Method::GET, url.to_owned(), String::new());
        for _ in 0..MAX_STEPS {
            let (method, url, body) = next;
            let answer = self.send(method, &url, &body).await;
            let base: url::Url = url.parse().expect("a URL");
            let to = |link: &str| base.join(link).expect("a URL").to_string();
            if answer.status.is_redirection() {
                let location = answer.headers.get(header::LOCATION);
                let location = location.and_then(|location| location.to_str().ok());
                let location = to(location.expect("a redirection leads somewhere"));
                next = (Method::GET, location, String::new());
                continue;
            }
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            let said_no = body.contains("abort=");
            let Some(form) = text.split("<form").nth(1).filter(|_| !said_no) else {
                return (answer.status.as_u16(), text);
            };
            let action = attribute(form, "action").expect("an action");
            let mut fields: BTreeMap<String, String> = form
                .split("<input")
                .skip(1)
                .filter_map(|input| {
                    let (input, _) = input.split_once('>')?;
                    Some((attribute(input, "name")?, attribute(input, "value")?))
                })
                .collect();
            if fields.get("prompt").is_some_and(|prompt| prompt == "login") {
                fields.insert("login".to_owned(), self.user.clone());
                fields.insert("password".to_owned(), "x".to_owned());
            }
            if fields.contains_key("confirm") && !yes {
                fields.remove("confirm");
                fields.insert("abort".to_owned(), "yes".to_owned());
            }
            let body = url::form_urlencoded::Serializer::new(String::new())
                .extend_pairs(fields)
                .finish();
            next = (Method::POST, to(&action), body);
        }
        panic!("the provider does not come to an end");
    }

    /// Opens a page on loopback.
    pub async fn open(&mut self, url: &str) -> Answer {
        self.send(Method::GET, url, "").await
    }

    async fn send(&mut self, method: Method, url: &str, body: &str) -> Answer {
        let cookies = self.cookies.iter();
        let cookies: Vec<String> = cookies
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let cookies = cookies.join("; ");
        let mut headers = vec![("cookie", cookies.as_str())];
        if method == Method::POST {
            headers.push(("content-type", "application/x-www-form-urlencoded"));
        }
        let answer = fetch(method, url, &headers, body.to_owned()).await;
        let answer = answer.expect("an answer");
        for set in answer.headers.get_all(header::SET_COOKIE) {
            let set = set.to_str().expect("a cookie of text");
            let (pair, _) = set.split_once(';').unwrap_or((set, ""));
            if let Some((name, value)) = pair.split_once('=') {
                if value.is_empty() {
                    self.cookies.remove(name);
                } else {
                    self.cookies.insert(name.to_owned(), value.to_owned());
                }
            }
        }
        answer
    }
}

/// The value of an attribute of an element.
fn attribute(element: &str, name: &str) -> Option<String> {
    let (_, rest) = element.split_once(&format!("{name}=\""))?;
    rest.split_once('"').map(|(value, _)| value.to_owned())
}
