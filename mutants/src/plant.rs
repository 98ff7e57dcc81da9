//! The faults: what is planted where.
//!
//! | in | fault |
//! | --- | --- |
//! | a function | returns a value of its type at once |
//! | `if`, a guard of a match | always, never |
//! | `&&`, `\|\|` | the other |
//! | `==`, `!=`, `!`, a question such as `.contains(…)` | its contrary |
//! | `<`, `<=`, `>`, `>=` | its contrary, and the same with its bound moved by one |
//! | arithmetic and bits | another operator |
//! | a statement that is called for its effect or for its `?` | left out |
//! | an arm of a match with a last arm for the rest | left out |
//!
//! Not looked into: tests, constants and `const fn`, macros' arguments, patterns, `Debug` and `Display`.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

use crate::plan::Plan;
use crate::rewrite::Rewrite;

/// Methods that answer yes or no.
const QUESTIONS: [&str; 20] = [
    "all",
    "any",
    "contains",
    "contains_key",
    "ct_eq",
    "ends_with",
    "eq",
    "eq_ignore_ascii_case",
    "holds",
    "insert",
    "is_ascii_digit",
    "is_empty",
    "is_err",
    "is_none",
    "is_none_or",
    "is_ok",
    "is_some",
    "is_some_and",
    "is_subset",
    "starts_with",
];

/// One planted fault.
#[derive(Clone, Debug)]
pub struct Mutant {
    /// Its number, from 1.
    pub id: u32,
    /// The file, from the repository's root.
    pub file: String,
    /// The function that it is in.
    pub function: String,
    /// Where.
    pub line: usize,
    /// What.
    pub fault: String,
    /// It does not compile, and is not there.
    pub dropped: bool,
}

impl Mutant {
    /// What names it across runs.
    pub fn key(&self) -> String {
        format!("{} {}: {}", self.file, self.function, self.fault)
    }

    /// For a person.
    pub fn place(&self) -> String {
        let Self {
            file,
            line,
            function,
            fault,
            ..
        } = self;
        format!("{file}:{line} {function}: {fault}")
    }
}

/// A file with its faults.
#[derive(Debug)]
pub struct Source {
    /// From the repository's root.
    pub path: String,
    /// As it is.
    pub text: String,
    /// What is planted.
    pub rewrite: Rewrite,
    /// What that does.
    pub mutants: Vec<Mutant>,
}

/// Every file of the plan, with its faults.
pub fn sources(repository: &Path, plan: &Plan) -> Result<Vec<Source>> {
    let (mut sources, mut next) = (Vec::new(), 1);
    for part in plan.package.values() {
        let mut files = Vec::new();
        for name in &part.files {
            collect(&repository.join(&part.folder).join(name), &mut files)?;
        }
        files.sort();
        for file in files {
            let path = file.strip_prefix(repository)?.display().to_string();
            let is_test = |word: &str| path.contains(word);
            let excepted = part.except.iter().any(|name| path.ends_with(name.as_str()));
            if excepted || is_test("/tests") || is_test("_tests.rs") {
                continue;
            }
            let text = std::fs::read_to_string(&file)?;
            let syntax = syn::parse_file(&text).with_context(|| path.clone())?;
            let mut planter = Planter {
                text: &text,
                file: &path,
                next,
                functions: Vec::new(),
                rewrite: Rewrite::default(),
                mutants: Vec::new(),
            };
            planter.visit_file(&syntax);
            next = planter.next;
            let (rewrite, mutants) = (planter.rewrite, planter.mutants);
            sources.push(Source {
                path,
                text,
                rewrite,
                mutants,
            });
        }
    }
    Ok(sources)
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            collect(&entry?.path(), files)?;
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        files.push(path.to_owned());
    }
    Ok(())
}

struct Planter<'a> {
    text: &'a str,
    file: &'a str,
    next: u32,
    functions: Vec<String>,
    rewrite: Rewrite,
    mutants: Vec<Mutant>,
}

fn on(id: u32) -> String {
    format!("crate::mutant_switch::on({id})")
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let path = attribute.path();
        path.segments
            .last()
            .is_some_and(|last| last.ident == "test")
            || path.is_ident("cfg") && {
                let tokens = attribute
                    .meta
                    .require_list()
                    .map(|list| list.tokens.to_string());
                tokens.is_ok_and(|tokens| tokens.contains("test"))
            }
    })
}

/// Whether a condition binds names, so that nothing may stand around it.
fn binds(expression: &syn::Expr) -> bool {
    match expression {
        syn::Expr::Let(_) => true,
        syn::Expr::Binary(binary) => binds(&binary.left) || binds(&binary.right),
        _ => false,
    }
}

/// Values to return in place of the right one.
fn values(of: &syn::Type) -> Vec<String> {
    let syn::Type::Path(path) = of else {
        return match of {
            syn::Type::Reference(inner) => match &*inner.elem {
                syn::Type::Path(path) if path.path.is_ident("str") => {
                    vec!["\"\"".to_owned(), "\"xyzzy\"".to_owned()]
                }
                _ => Vec::new(),
            },
            syn::Type::Array(_) => vec!["Default::default()".to_owned(), "[1; _]".to_owned()],
            syn::Type::Tuple(tuple) if tuple.elems.is_empty() => vec!["()".to_owned()],
            syn::Type::Tuple(_) => vec!["Default::default()".to_owned()],
            _ => Vec::new(),
        };
    };
    let Some(last) = path.path.segments.last() else {
        return Vec::new();
    };
    let first_argument = match &last.arguments {
        syn::PathArguments::AngleBracketed(arguments) => {
            arguments.args.iter().find_map(|argument| match argument {
                syn::GenericArgument::Type(of) => Some(of),
                _ => None,
            })
        }
        syn::PathArguments::None | syn::PathArguments::Parenthesized(_) => None,
    };
    let inner = || first_argument.map(values).unwrap_or_default();
    match last.ident.to_string().as_str() {
        "bool" => vec!["true".to_owned(), "false".to_owned()],
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" | "i16" | "i32" | "i64" | "isize" => {
            vec!["0".to_owned(), "1".to_owned()]
        }
        "String" => vec![
            "String::new()".to_owned(),
            "\"xyzzy\".to_owned()".to_owned(),
        ],
        "Vec" => vec!["Vec::new()".to_owned()],
        "Option" => std::iter::once("None".to_owned())
            .chain(inner().into_iter().map(|value| format!("Some({value})")))
            .collect(),
        "Result" => inner()
            .into_iter()
            .map(|value| format!("Ok({value})"))
            .collect(),
        _ => vec!["Default::default()".to_owned()],
    }
}

impl Planter<'_> {
    fn range(&self, range: Range<usize>) -> &str {
        &self.text[range]
    }

    /// The text on one line, cut off.
    fn short(&self, range: Range<usize>) -> String {
        let words: Vec<&str> = self.range(range).split_whitespace().collect();
        let text = words.join(" ");
        match text.char_indices().nth(80) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        }
    }

    fn mutant(&mut self, line: usize, fault: String) -> u32 {
        let id = self.next;
        self.next += 1;
        let mut fault = fault;
        let (file, function) = (self.file.to_owned(), self.functions.join("::"));
        // Two alike in one function are told apart.
        let alike = |known: &&Mutant| {
            known.function == function && known.fault.split(" #").next() == Some(&fault)
        };
        let count = self.mutants.iter().filter(alike).count();
        if count > 0 {
            fault = format!("{fault} #{}", count + 1);
        }
        self.mutants.push(Mutant {
            id,
            file,
            function,
            line,
            fault,
            dropped: false,
        });
        id
    }

    /// Always and never.
    fn condition(&mut self, condition: &syn::Expr, what: &str) {
        let range = condition.span().byte_range();
        let line = condition.span().start().line;
        let text = self.short(range.clone());
        let always = self.mutant(line, format!("{what} {text}: always"));
        self.rewrite
            .wrap(always, range.clone(), format!("({} || (", on(always)), "))");
        let never = self.mutant(line, format!("{what} {text}: never"));
        self.rewrite
            .wrap(never, range, format!("(!{} && (", on(never)), "))");
    }

    fn contrary(&mut self, expression: &syn::Expr) {
        let range = expression.span().byte_range();
        let line = expression.span().start().line;
        let fault = format!("the contrary of {}", self.short(range.clone()));
        let id = self.mutant(line, fault);
        self.rewrite
            .wrap(id, range, format!("({} ^ (", on(id)), "))");
    }

    fn binary(&mut self, whole: &syn::Expr, binary: &syn::ExprBinary) {
        use syn::BinOp;
        let range = whole.span().byte_range();
        let line = whole.span().start().line;
        let between = binary.left.span().byte_range().end..binary.right.span().byte_range().start;
        let (left, right) = (
            self.range(binary.left.span().byte_range()).to_owned(),
            self.range(binary.right.span().byte_range()).to_owned(),
        );
        let text = self.short(range.clone());
        let other = match binary.op {
            BinOp::Eq(_) | BinOp::Ne(_) => return self.contrary(whole),
            BinOp::And(_) | BinOp::Or(_) => {
                let is_and = matches!(binary.op, BinOp::And(_));
                let fault = format!("{} in {text}", if is_and { "||" } else { "&&" });
                let id = self.mutant(line, fault);
                // Without the fault it is `if a { b } else { false }`, or `if a { true } else { b }`.
                let differs = if is_and { "!=" } else { "==" };
                let otherwise = if is_and {
                    on(id)
                } else {
                    format!("!{}", on(id))
                };
                self.rewrite.wrap(
                    id,
                    range,
                    "(if (".to_owned(),
                    &format!(" }} else {{ {otherwise} }})"),
                );
                return self
                    .rewrite
                    .replace(id, between, format!(") {differs} {} {{ ", on(id)));
            }
            BinOp::Lt(_) | BinOp::Le(_) | BinOp::Gt(_) | BinOp::Ge(_) => {
                let (same, moved) = match binary.op {
                    BinOp::Lt(_) => ("<", "<="),
                    BinOp::Le(_) => ("<=", "<"),
                    BinOp::Gt(_) => (">", ">="),
                    _ => (">=", ">"),
                };
                self.contrary(whole);
                let id = self.mutant(line, format!("{moved} in {text}"));
                let behind = format!(
                    ")) {{ (l, r) => if {} {{ l {moved} r }} else {{ l {same} r }} }})",
                    on(id)
                );
                self.rewrite
                    .wrap(id, range, "(match (&(".to_owned(), &behind);
                return self.rewrite.replace(id, between, "), &(".to_owned());
            }
            BinOp::Add(_) => "-",
            BinOp::Sub(_) => "+",
            BinOp::Mul(_) => "+",
            BinOp::Div(_) => "*",
            BinOp::Rem(_) => "/",
            BinOp::BitAnd(_) => "|",
            BinOp::BitOr(_) => "^",
            BinOp::BitXor(_) => "|",
            BinOp::Shl(_) => ">>",
            BinOp::Shr(_) => "<<",
            BinOp::AddAssign(_) => "-=",
            BinOp::SubAssign(_) => "+=",
            BinOp::BitOrAssign(_) => "&=",
            BinOp::BitAndAssign(_) => "|=",
            BinOp::BitXorAssign(_) => "|=",
            _ => return,
        };
        let id = self.mutant(line, format!("{other} in {text}"));
        let before = format!("(if {} {{ ({left}) {other} ({right}) }} else {{ ", on(id));
        let before = if other.ends_with('=') {
            format!("(if {} {{ {left} {other} {right} }} else {{ ", on(id))
        } else {
            before
        };
        self.rewrite.wrap(id, range, before, " })");
    }

    fn body(&mut self, output: &syn::ReturnType, block: &syn::Block) {
        let Some(first) = block.stmts.first() else {
            return;
        };
        let values = match output {
            syn::ReturnType::Default => vec!["()".to_owned()],
            syn::ReturnType::Type(_, of) => values(of),
        };
        let line = first.span().start().line;
        let body = self
            .range(block.span().byte_range())
            .trim_matches(['{', '}', ' ', '\n']);
        let body = body.to_owned();
        let start = block.brace_token.span.open().byte_range().end;
        for value in values {
            if body == value {
                continue;
            }
            let id = self.mutant(line, format!("returns {value}"));
            let text = format!(" if {} {{ return {value}; }}", on(id));
            self.rewrite.wrap(id, start..start, text, "");
        }
    }

    fn within(&mut self, name: String, visit: impl FnOnce(&mut Self)) {
        self.functions.push(name);
        visit(self);
        self.functions.pop();
    }
}

impl<'ast> Visit<'ast> for Planter<'_> {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_test(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_const(&mut self, _: &'ast syn::ItemConst) {}
    fn visit_item_static(&mut self, _: &'ast syn::ItemStatic) {}
    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}
    fn visit_trait_item_const(&mut self, _: &'ast syn::TraitItemConst) {}
    fn visit_type(&mut self, _: &'ast syn::Type) {}
    fn visit_pat(&mut self, _: &'ast syn::Pat) {}
    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}
    fn visit_item_enum(&mut self, _: &'ast syn::ItemEnum) {}

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let shows = item.trait_.as_ref().is_some_and(|(_, path, _)| {
            path.segments
                .last()
                .is_some_and(|last| last.ident == "Debug" || last.ident == "Display")
        });
        if is_test(&item.attrs) || shows {
            return;
        }
        let name = self.short(item.self_ty.span().byte_range());
        self.within(name, |planter| visit::visit_item_impl(planter, item));
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if is_test(&item.attrs) || item.sig.constness.is_some() {
            return;
        }
        self.within(item.sig.ident.to_string(), |planter| {
            planter.body(&item.sig.output, &item.block);
            visit::visit_item_fn(planter, item);
        });
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if is_test(&item.attrs) || item.sig.constness.is_some() {
            return;
        }
        self.within(item.sig.ident.to_string(), |planter| {
            planter.body(&item.sig.output, &item.block);
            visit::visit_impl_item_fn(planter, item);
        });
    }

    fn visit_stmt(&mut self, statement: &'ast syn::Stmt) {
        if let syn::Stmt::Expr(expression, ends) = statement {
            let is_effect = match expression {
                syn::Expr::MethodCall(_)
                | syn::Expr::Call(_)
                | syn::Expr::Try(_)
                | syn::Expr::Assign(_) => ends.is_some(),
                syn::Expr::ForLoop(_) => true,
                syn::Expr::If(branch) => {
                    binds(&branch.cond)
                        && branch.else_branch.is_none()
                        && !self.range(statement.span().byte_range()).contains("return")
                }
                _ => false,
            };
            if is_effect {
                let range = statement.span().byte_range();
                let line = statement.span().start().line;
                let id = self.mutant(line, format!("without {}", self.short(range.clone())));
                self.rewrite
                    .wrap(id, range, format!("if !{} {{ ", on(id)), " }");
            }
        }
        visit::visit_stmt(self, statement);
    }

    fn visit_expr_if(&mut self, branch: &'ast syn::ExprIf) {
        if !binds(&branch.cond) {
            self.condition(&branch.cond, "if");
        }
        visit::visit_expr_if(self, branch);
    }

    fn visit_expr_match(&mut self, choice: &'ast syn::ExprMatch) {
        let rest = choice.arms.last().is_some_and(|last| {
            let is_open = match &last.pat {
                syn::Pat::Wild(_) => true,
                // `None` looks like a name, too.
                syn::Pat::Ident(name) => {
                    let text = name.ident.to_string();
                    name.subpat.is_none() && text.starts_with(|c: char| c.is_lowercase())
                }
                _ => false,
            };
            is_open && last.guard.is_none()
        });
        if rest {
            for arm in choice.arms.iter().rev().skip(1) {
                let range = arm.pat.span().byte_range();
                let line = arm.pat.span().start().line;
                let text = self.short(range.clone());
                match &arm.guard {
                    None => {
                        let id = self.mutant(line, format!("without the arm {text}"));
                        let text = format!(" if !{}", on(id));
                        self.rewrite.wrap(id, range.end..range.end, text, "");
                    }
                    Some((_, guard)) if !binds(guard) => self.condition(guard, "guard"),
                    Some(_) => {}
                }
            }
        }
        visit::visit_expr_match(self, choice);
    }

    fn visit_expr(&mut self, expression: &'ast syn::Expr) {
        match expression {
            syn::Expr::Const(_) => return,
            // The length is a constant.
            syn::Expr::Repeat(repeat) => return self.visit_expr(&repeat.expr),
            syn::Expr::Binary(binary) if !binds(expression) => self.binary(expression, binary),
            syn::Expr::Unary(unary) if matches!(unary.op, syn::UnOp::Not(_)) => {
                self.contrary(expression);
                // The question below would be the same fault.
                if let syn::Expr::MethodCall(call) = &*unary.expr {
                    return visit::visit_expr_method_call(self, call);
                }
            }
            syn::Expr::MethodCall(call)
                if QUESTIONS.iter().any(|question| call.method == question) =>
            {
                self.contrary(expression);
            }
            syn::Expr::Macro(call) if call.mac.path.is_ident("matches") => {
                self.contrary(expression);
            }
            _ => {}
        }
        visit::visit_expr(self, expression);
    }
}
