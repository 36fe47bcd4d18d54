//! What tells one region from all others: sixteen random bytes.

use std::fmt;

/// Bytes of a region's random token.
pub const TOKEN_BYTES: usize = 16;

/// The random bytes of one region, which only somebody who maps it can know.
///
/// As text it is 32 hexadecimal digits, two a byte, in the order of memory.
///
/// # Examples
/// ```
/// use shm_fifo::region::Token;
///
/// let digits = "000102030405060708090a0b0c0d0e0f";
/// let token = Token::from_digits(digits.as_bytes()).expect("a token");
/// assert_eq!(token.to_string(), digits);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token([u8; TOKEN_BYTES]);

impl Token {
    /// The token with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; TOKEN_BYTES]) -> Self {
        Self(bytes)
    }

    /// The token that is written so. `None` for anything but 32 hexadecimal digits; upper case
    /// will do.
    #[must_use]
    pub fn from_digits(digits: &[u8]) -> Option<Self> {
        let (pairs, rest) = digits.split_at_checked(2 * TOKEN_BYTES)?;
        if !rest.is_empty() {
            return None;
        }
        let mut bytes = [0; TOKEN_BYTES];
        for (byte, pair) in bytes.iter_mut().zip(pairs.chunks_exact(2)) {
            let [high, low] = [pair[0], pair[1]].map(|digit| char::from(digit).to_digit(16));
            *byte = u8::try_from(high? << 4 | low?).ok()?;
        }
        Some(Self(bytes))
    }

    /// Its bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; TOKEN_BYTES] {
        self.0
    }
}

impl fmt::Debug for Token {
    /// Not the digits, which are a secret: what is printed so ends in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: Token = Token([0xab, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);

    #[test]
    fn a_token_is_written_as_lower_case_digits_in_the_order_of_memory() {
        assert_eq!(TOKEN.to_string(), "ab0102030405060708090a0b0c0d0eff");
    }

    #[test]
    fn a_token_is_exactly_its_hexadecimal_digits() {
        assert_eq!(Token::from_digits(TOKEN.to_string().as_bytes()), Some(TOKEN));
        assert_eq!(Token::from_digits(b"AB0102030405060708090a0b0c0d0eFF"), Some(TOKEN));
    }

    #[test]
    fn anything_else_is_no_token() {
        let none: [&[u8]; 6] = [
            b"",
            b"00",
            b"0g0102030405060708090a0b0c0d0e0f",
            b"+b0102030405060708090a0b0c0d0eff",
            &[b'0'; 31],
            &[b'0'; 33],
        ];
        for digits in none {
            assert_eq!(Token::from_digits(digits), None);
        }
    }
}
