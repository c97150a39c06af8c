"""The plate on disk: OME-NGFF metadata, plates, wells and fields, commits, manifests, plate maps."""
