"""Tables, figures and one self-contained HTML page for a run, made from its plain files."""
