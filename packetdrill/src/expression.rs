// SPDX-License-Identifier: MIT OR Apache-2.0
//! `%{ assert … }%`: assertions about `tcpi_` fields. A small part of Python's expressions: whole
//! numbers, names, `+ - * / %`, chained comparisons, `not`, `and`, `or`, parentheses.

/// Runs every statement of `code`; `field` gives the value of a name.
///
/// # Errors
/// The assertion that does not hold, with the values in it, or what is not understood.
pub(crate) fn check(code: &str, field: &dyn Fn(&str) -> Option<i64>) -> Result<(), String> {
    for statement in code.split(['\n', ';']).map(strip).filter(|statement| !statement.is_empty()) {
        let Some(text) = statement.strip_prefix("assert ") else {
            return Err(format!("only assert is known, not \"{statement}\""));
        };
        let mut parser = Parser { tokens: tokens(text)?, at: 0, field, seen: Vec::new() };
        let holds = parser.any()?;
        if !matches!(parser.peek(), None | Some(",")) {
            return Err(format!("\"{text}\" is not understood from \"{}\"", parser.peek().unwrap_or("")));
        }
        if holds == 0 {
            return Err(format!("assert {text} does not hold: {}", parser.seen.join(", ")));
        }
    }
    Ok(())
}

fn strip(statement: &str) -> &str {
    statement.split('#').next().unwrap_or("").trim()
}

fn tokens(text: &str) -> Result<Vec<String>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let length = if is_word(first) {
            rest.find(|letter| !is_word(letter)).unwrap_or(rest.len())
        } else if ["==", "!=", "<=", ">=", "//"].iter().any(|two| rest.starts_with(two)) {
            2
        } else if "+-*/%<>(),".contains(first) {
            1
        } else {
            return Err(format!("\"{rest}\" is not understood"));
        };
        let (token, after) = rest.split_at(length);
        tokens.push(token.to_owned());
        rest = after.trim_start();
    }
    Ok(tokens)
}

struct Parser<'a> {
    tokens: Vec<String>,
    at: usize,
    field: &'a dyn Fn(&str) -> Option<i64>,
    /// Names that were looked up, with their values.
    seen: Vec<String>,
}

type Value = Result<i64, String>;

impl Parser<'_> {
    fn peek(&self) -> Option<&str> {
        self.tokens.get(self.at).map(String::as_str)
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.peek() == Some(token);
        self.at += usize::from(found);
        found
    }

    fn any(&mut self) -> Value {
        let mut value = self.all()?;
        while self.take("or") {
            let other = self.all()?;
            value = i64::from(value != 0 || other != 0);
        }
        Ok(value)
    }

    fn all(&mut self) -> Value {
        let mut value = self.comparison()?;
        while self.take("and") {
            let other = self.comparison()?;
            value = i64::from(value != 0 && other != 0);
        }
        Ok(value)
    }

    fn comparison(&mut self) -> Value {
        if self.take("not") {
            return Ok(i64::from(self.comparison()? == 0));
        }
        let mut left = self.sum()?;
        let mut holds = None;
        while let Some(operator) = self.peek().map(str::to_owned) {
            if !matches!(operator.as_str(), "==" | "!=" | "<" | ">" | "<=" | ">=") {
                break;
            }
            self.at += 1;
            let right = self.sum()?;
            let now = match operator.as_str() {
                "==" => left == right,
                "!=" => left != right,
                "<" => left < right,
                ">" => left > right,
                "<=" => left <= right,
                _ => left >= right,
            };
            holds = Some(holds.unwrap_or(true) && now);
            left = right;
        }
        Ok(holds.map_or(left, i64::from))
    }

    fn sum(&mut self) -> Value {
        let mut value = self.product()?;
        loop {
            if self.take("+") {
                value = value.saturating_add(self.product()?);
            } else if self.take("-") {
                value = value.saturating_sub(self.product()?);
            } else {
                return Ok(value);
            }
        }
    }

    fn product(&mut self) -> Value {
        let mut value = self.atom()?;
        loop {
            let zero = || "division by zero".to_owned();
            if self.take("*") {
                value = value.saturating_mul(self.atom()?);
            } else if self.take("/") || self.take("//") {
                value = value.checked_div(self.atom()?).ok_or_else(zero)?;
            } else if self.take("%") {
                value = value.checked_rem(self.atom()?).ok_or_else(zero)?;
            } else {
                return Ok(value);
            }
        }
    }

    fn atom(&mut self) -> Value {
        if self.take("-") {
            return Ok(-self.atom()?);
        }
        if self.take("(") {
            let value = self.any()?;
            return if self.take(")") { Ok(value) } else { Err("no ) follows".to_owned()) };
        }
        let token = self.peek().ok_or("an expression ends too early")?.to_owned();
        self.at += 1;
        if let Ok(number) = token.parse() {
            return Ok(number);
        }
        let value = (self.field)(&token).ok_or_else(|| format!("no field {token}"))?;
        self.seen.push(format!("{token} is {value}"));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    fn field(name: &str) -> Option<i64> {
        match name {
            "tcpi_rto" => Some(200_000),
            "tcpi_state" => Some(1),
            _ => None,
        }
    }

    #[test]
    fn what_holds_passes() {
        let code = "\nassert tcpi_rto == 200 * 1000, tcpi_rto\nassert 0 <= tcpi_state < 2 and not tcpi_state == 0 # one\n\
                    assert (tcpi_rto - 1) % 2 == 1 or 0; assert -1 + 2 == 1";
        assert_eq!(check(code, &field), Ok(()));
    }

    #[test]
    fn what_does_not_hold_is_told_with_its_values() {
        let told = check("assert tcpi_rto < 5", &field).expect_err("false");
        assert!(told.contains("tcpi_rto is 200000"), "{told}");
        assert!(check("assert 2 < 3 < 3", &field).is_err());
        assert!(check("assert tcpi_mood == 1", &field).is_err());
        assert!(check("import os", &field).is_err());
        assert!(check("assert 1 1", &field).is_err());
    }
}
