//! Writes the SBOM of `tokenkeepd` [CycloneDX 1.6, JSON] from `Cargo.lock`, for the binary to carry.
//!
//! It lists what Cargo resolved for the service on any platform: the crates of this repository by their manifests'
//! dependencies, all others by the lock file's, what they are built with among them. The same sources give the same
//! bytes: there is no time and no serial number in it.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// The package that the walk begins at, and the binary that it makes.
const ROOT: (&str, &str) = ("tokenkeep-broker", "tokenkeepd");

type Failed = Box<dyn Error>;

/// A package by name and version.
type Id = (String, String);

struct Package {
    /// None for one of this repository.
    source: Option<String>,
    sha256: Option<String>,
    depends_on: Vec<String>,
}

#[expect(
    clippy::disallowed_methods,
    reason = "cargo tells a build script where to write by its environment"
)]
fn main() -> Result<(), Failed> {
    let root = Path::new("..");
    let lock = read(&root.join("Cargo.lock"))?;
    let workspace = read(&root.join("Cargo.toml"))?;
    let packages = packages(&lock)?;
    let edges = walk(root, &workspace, &packages)?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out.join("sbom.cdx.json"), document(&packages, &edges)?)?;
    Ok(())
}

fn read(path: &Path) -> Result<Table, Failed> {
    println!("cargo::rerun-if-changed={}", path.display());
    let text = fs::read_to_string(path)?;
    Ok(text.parse::<Table>()?)
}

fn text<'t>(table: &'t Table, name: &str) -> Result<&'t str, Failed> {
    let value = table.get(name).and_then(Value::as_str);
    value.ok_or_else(|| format!("a package without {name}").into())
}

fn packages(lock: &Table) -> Result<BTreeMap<Id, Package>, Failed> {
    let listed = lock.get("package").and_then(Value::as_array);
    let listed = listed.ok_or("Cargo.lock has no packages")?;
    let mut packages = BTreeMap::new();
    for package in listed {
        let package = package.as_table().ok_or("a package is no table")?;
        let optional = |name: &str| package.get(name).and_then(Value::as_str).map(str::to_owned);
        let depends_on = package.get("dependencies").and_then(Value::as_array);
        let depends_on = depends_on.into_iter().flatten().filter_map(Value::as_str);
        let id = (
            text(package, "name")?.to_owned(),
            text(package, "version")?.to_owned(),
        );
        let package = Package {
            source: optional("source"),
            sha256: optional("checksum"),
            depends_on: depends_on.map(str::to_owned).collect(),
        };
        packages.insert(id, package);
    }
    Ok(packages)
}

/// The package that a line of the lock file names: by its name alone, if there is one version.
fn resolve(packages: &BTreeMap<Id, Package>, line: &str) -> Result<Id, Failed> {
    let mut words = line.split(' ');
    let name = words.next().unwrap_or_default();
    let version = words.next();
    let mut found = packages
        .keys()
        .filter(|(known, at)| known == name && version.is_none_or(|version| version == at));
    match (found.next(), found.next()) {
        (Some(id), None) => Ok(id.clone()),
        (Some(_), Some(_)) | (None, _) => {
            Err(format!("Cargo.lock does not resolve {line:?} to one package").into())
        }
    }
}

/// What each package that the service is made of depends on.
fn walk(
    root: &Path,
    workspace: &Table,
    packages: &BTreeMap<Id, Package>,
) -> Result<BTreeMap<Id, BTreeSet<Id>>, Failed> {
    let mut edges = BTreeMap::new();
    let mut waiting = vec![resolve(packages, ROOT.0)?];
    while let Some(id) = waiting.pop() {
        if edges.contains_key(&id) {
            continue;
        }
        let package = packages.get(&id).ok_or("a package that is not listed")?;
        let mut next = BTreeSet::new();
        let named = match package.source {
            Some(_) => None,
            // The lock file lists what tests need, too.
            None => Some(named_by_manifest(root, workspace, &id.0)?),
        };
        for line in &package.depends_on {
            let other = resolve(packages, line)?;
            if named.as_ref().is_none_or(|named| named.contains(&other.0)) {
                next.insert(other);
            }
        }
        waiting.extend(next.iter().cloned());
        edges.insert(id, next);
    }
    Ok(edges)
}

/// The names of the packages that one of this repository names as its dependencies.
fn named_by_manifest(
    root: &Path,
    workspace: &Table,
    name: &str,
) -> Result<BTreeSet<String>, Failed> {
    let shared = workspace
        .get("workspace")
        .and_then(|workspace| workspace.get("dependencies"))
        .and_then(Value::as_table)
        .ok_or("the workspace has no dependencies")?;
    let path = shared.get(name).and_then(|shared| shared.get("path"));
    let path = path.and_then(Value::as_str);
    let path = path.ok_or_else(|| format!("the workspace has no path for {name}"))?;
    let manifest = read(&root.join(path).join("Cargo.toml"))?;
    let targets = manifest.get("target").and_then(Value::as_table);
    let targets = targets.into_iter().flat_map(Table::values);
    let tables = targets
        .filter_map(Value::as_table)
        .chain(std::iter::once(&manifest))
        .filter_map(|place| place.get("dependencies").and_then(Value::as_table));
    let renamed = |key: &String, own: &Value| {
        let package = |table: &Value| {
            let package = table.get("package").and_then(Value::as_str);
            package.map(str::to_owned)
        };
        package(own)
            .or_else(|| shared.get(key.as_str()).and_then(package))
            .unwrap_or_else(|| key.clone())
    };
    Ok(tables
        .flat_map(|table| table.iter().map(|(key, own)| renamed(key, own)))
        .collect())
}

/// Text of a package that needs no escapes in JSON or in a package URL.
fn plain(text: &str) -> Result<&str, Failed> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
    if text.bytes().all(plain) {
        Ok(text)
    } else {
        Err(format!("{text:?} has unexpected characters").into())
    }
}

fn reference((name, version): &Id, package: &Package) -> Result<String, Failed> {
    let (name, version) = (plain(name)?, plain(version)?.replace('+', "%2B"));
    Ok(match package.source {
        Some(_) => format!("pkg:cargo/{name}@{version}"),
        None => format!("{name}@{version}"),
    })
}

fn document(
    packages: &BTreeMap<Id, Package>,
    edges: &BTreeMap<Id, BTreeSet<Id>>,
) -> Result<String, Failed> {
    let find = |id: &Id| {
        let package = packages.get(id);
        package.ok_or_else(|| Failed::from("a package that is not listed"))
    };
    let (mut components, mut dependencies) = (Vec::new(), Vec::new());
    let mut head = String::new();
    for (id, next) in edges {
        let package = find(id)?;
        let reference = reference(id, package)?;
        let depends_on = next.iter().map(|next| {
            let reference = self::reference(next, find(next)?)?;
            Ok(format!("\"{reference}\""))
        });
        let depends_on = depends_on.collect::<Result<Vec<_>, Failed>>()?.join(",");
        dependencies.push(format!(
            "{{\"ref\":\"{reference}\",\"dependsOn\":[{depends_on}]}}"
        ));
        let (name, version) = (plain(&id.0)?, plain(&id.1)?);
        let mut component = String::new();
        if id.0 == ROOT.0 {
            write!(
                head,
                "{{\"type\":\"application\",\"bom-ref\":\"{reference}\",\"name\":\"{}\",\"version\":\"{version}\"}}",
                ROOT.1
            )?;
            continue;
        }
        write!(
            component,
            "{{\"type\":\"library\",\"bom-ref\":\"{reference}\",\"name\":\"{name}\",\"version\":\"{version}\""
        )?;
        if package.source.is_some() {
            write!(component, ",\"purl\":\"{reference}\"")?;
        }
        if let Some(sha256) = &package.sha256 {
            let sha256 = plain(sha256)?;
            write!(
                component,
                ",\"hashes\":[{{\"alg\":\"SHA-256\",\"content\":\"{sha256}\"}}]"
            )?;
        }
        component.push('}');
        components.push(component);
    }
    Ok(format!(
        "{{\"$schema\":\"http://cyclonedx.org/schema/bom-1.6.schema.json\",\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.6\",\
         \"version\":1,\"metadata\":{{\"component\":{head}}},\"components\":[{}],\"dependencies\":[{}]}}\n",
        components.join(","),
        dependencies.join(",")
    ))
}
