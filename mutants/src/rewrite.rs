//! Insertions into a text that nest as the syntax does.

use std::ops::Range;

/// One piece of new text.
#[derive(Clone, Debug)]
struct Piece {
    /// Where, in the old text.
    at: usize,
    /// Up to where old text is dropped.
    until: usize,
    /// Closes what an earlier piece opened: at one place it comes before what opens there.
    closes: bool,
    text: String,
    /// The mutant that it belongs to.
    id: u32,
}

/// Pieces, in the order in which they were planted: the outer before the inner.
#[derive(Debug, Default)]
pub struct Rewrite {
    pieces: Vec<Piece>,
}

/// The new text, and where in it each mutant's own pieces and what they wrap lie.
#[derive(Debug)]
pub struct Rewritten {
    /// The text.
    pub text: String,
    /// A mutant's pieces.
    pub pieces: Vec<(u32, Range<usize>)>,
}

impl Rewrite {
    /// Wraps what is at `range`.
    pub fn wrap(&mut self, id: u32, range: Range<usize>, before: String, behind: &str) {
        self.insert(id, range.start, range.start, false, before);
        self.insert(id, range.end, range.end, true, behind.to_owned());
    }

    /// Puts text in place of what is at `range`.
    pub fn replace(&mut self, id: u32, range: Range<usize>, text: String) {
        self.insert(id, range.start, range.end, true, text);
    }

    fn insert(&mut self, id: u32, at: usize, until: usize, closes: bool, text: String) {
        self.pieces.push(Piece {
            at,
            until,
            closes,
            text,
            id,
        });
    }

    /// The new text, without the pieces of the mutants that are `dropped`.
    pub fn apply(&self, old: &str, dropped: impl Fn(u32) -> bool) -> Rewritten {
        let mut order: Vec<(usize, &Piece)> = self.pieces.iter().enumerate().collect();
        // A replacement stands behind what closes at its start.
        order.sort_by_key(|(number, piece)| {
            let number = isize::try_from(*number).unwrap_or(isize::MAX);
            let nested = if piece.closes { -number } else { number };
            (piece.at, piece.until > piece.at, !piece.closes, nested)
        });
        let mut text = String::with_capacity(old.len() * 2);
        let (mut at, mut pieces) = (0, Vec::new());
        for (_, piece) in order {
            if dropped(piece.id) {
                continue;
            }
            text.push_str(&old[at..piece.at]);
            at = piece.until;
            let start = text.len();
            text.push_str(&piece.text);
            pieces.push((piece.id, start..text.len()));
        }
        text.push_str(&old[at..]);
        Rewritten { text, pieces }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_nest_as_they_were_planted() {
        // a && b == c
        let mut rewrite = Rewrite::default();
        rewrite.wrap(1, 0..11, "{".to_owned(), "}");
        rewrite.wrap(2, 0..11, "<".to_owned(), ">");
        rewrite.replace(2, 1..5, " and ".to_owned());
        rewrite.wrap(3, 0..1, "[".to_owned(), "]");
        rewrite.wrap(4, 5..11, "(".to_owned(), ")");
        let old = "a && b == c";
        let new = rewrite.apply(old, |_| false);
        assert_eq!(new.text, "{<[a] and (b == c)>}");
        assert_eq!(rewrite.apply(old, |id| id == 2).text, "{[a] && (b == c)}");
        let (id, range) = new.pieces[2].clone();
        assert_eq!((id, &new.text[range]), (3, "["));
    }
}
