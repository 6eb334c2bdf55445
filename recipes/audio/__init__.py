"""What the audio recipes share: files, features, and torchaudio where it can be had."""
