//! The objects with one key that stand for what JSON has no word for.

/// The names of the forms, without their dollar sign.
const FORMS: [&str; 4] = ["bytes", "ext", "timestamp", "float"];

/// Whether the only key of a map would be taken for a form's, or for such a key with more dollar signs.
pub(super) fn is_form_key(key: &str) -> bool {
    key.starts_with('$') && FORMS.contains(&key.trim_start_matches('$'))
}
