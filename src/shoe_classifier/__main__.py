from shoe_classifier.cli import app

if __name__ == "__main__":
    app()
