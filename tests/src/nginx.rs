//! nginx as a process of its own.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "an nginx that does not come up fails the test"
)]

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

use crate::process::Process;
use crate::wait::wait_for;

/// Names the program; `scripts/nginx.sh` installs it and says where it is.
pub const NGINX_VARIABLE: &str = "TOKENKEEP_TEST_NGINX";

/// A running nginx, on loopback.
#[derive(Debug)]
pub struct Nginx {
    /// Where it listens.
    pub port: u16,
    /// Its one process.
    pub process: Process,
    folder: TempDir,
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests are told by their environment where nginx is"
)]
fn program() -> PathBuf {
    match std::env::var_os(NGINX_VARIABLE) {
        Some(path) => path.into(),
        // Not to pass by doing nothing.
        None => {
            panic!("{NGINX_VARIABLE} is not set: run `eval \"$(scripts/nginx.sh --export)\"` first")
        }
    }
}

impl Nginx {
    /// Starts it on a port that is free. `files` are laid beside its configuration; `http` makes what stands in the
    /// block `http`, of the folder and the port.
    pub async fn start(files: &[(&str, &[u8])], http: impl Fn(&Path, u16) -> String) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let dir = folder.path();
        for (name, bytes) in files {
            fs::write(dir.join(name), bytes).expect("a file of nginx");
        }
        let (process, port) = wait_for("nginx listens", async || {
            let port = free_port().await;
            let config = configuration(dir, &http(dir, port));
            fs::write(dir.join("nginx.conf"), config).expect("a configuration of nginx");
            let prefix = format!("{}/", dir.display());
            let arguments = ["-p", &prefix, "-c", "nginx.conf", "-e", "error.log"];
            let mut process = Process::start(&program(), &arguments, dir, "nginx");
            let up = wait_for("nginx is up or has ended", async || {
                if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                    return Some(true);
                }
                (!process.running()).then_some(false)
            });
            let up = up.await;
            if !up {
                // A port that was taken meanwhile is tried again; all else would go on for ever.
                let said = fs::read_to_string(dir.join("error.log")).unwrap_or_default();
                assert!(said.contains("Address already in use"), "{said}");
            }
            up.then_some((process, port))
        })
        .await;
        Self {
            port,
            process,
            folder,
        }
    }

    /// A file in its folder.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// A port that nobody has at this moment.
async fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    socket.local_addr().expect("its number").port()
}

/// One process in the foreground.
fn configuration(dir: &Path, http: &str) -> String {
    let dir = dir.display();
    format!(
        r#"daemon off;
master_process off;
pid {dir}/nginx.pid;
error_log {dir}/error.log;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
{http}
}}
"#
    )
}
