"""Which models there are and what is known of them: entries of catalog.yaml with their cards, what the Hub says of a
repository, lineage, licences, the kind and the memory of a model, which of its files hold the weights. It reads small
files and asks the Hub; it fetches no weights, and knows neither runtimes nor the pages that facts are shown on.

Door:
    card_text: safe_url
    cards: MAIN, MEASURED, OPENNESS, PAGE, card_markdown, fact_title, license_id,
        openness_score
    config_names: ATTENTION_HEADS, CONTEXT_LENGTH, HEAD_DIM, HIDDEN_SIZE, INTERMEDIATE_SIZE, KEY_VALUE_HEADS,
        LAYERS, Names, VOCAB_SIZE, whole
    entries: Catalog, CatalogEntry, Terms, load_catalog
    facts: full_facts
    footprint: BYTES, Footprint, KERNELS_CACHE, OTHER_MB, PROCESS_MB, estimate, of_files, unpacked_mb, whole_mb
    gguf_names: tags_of
    hub: HubInfo, fetch_model_info, hub_errors, reachable
    hub_cards: card_html, hub_facts, read, remembered, rest_url
    hub_names: HUB_REVISION, HubName, hub_name, parse, tag_in
    hub_weights: hub_weights
    kinds: WORDS, has_encoder, kind_told
    kv_cache: cache_of
    licenses: ADVICE, Rule, commercial_use, forbids_commercial_use, rule_of
    quantization: advice, bases_of, forget, quantisation, repositories, settings_of, uneven_blocks
    stores: SCHEMES, Stored, Stores
    search: Filters, Listed, SORTS, Sort, choices, footprint, listed, select, smaller
    sets: ModelSet, download_bytes, model_sets
    template_files: bring_template, find_template, named_tokens, read_json
    tokenizer_source: tokenizer_words
    weight_files: ADAPTER, GGUF_FILE, INDEX, INDEX_END, IncompleteFiles, OTHER_LIBRARIES, Read, WHOLE,
        is_other_gguf, is_pickled, is_refused, packed_in, parts_of, weights_of, why_none
"""
