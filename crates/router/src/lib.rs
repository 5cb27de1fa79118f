//! Who hears a message: filter trie, retained tree, shared groups.
