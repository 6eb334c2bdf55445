"""The arithmetic of charts: scales, ticks, rasters, layout. No Textual app, no clock, no data source."""
