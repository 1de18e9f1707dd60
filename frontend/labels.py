import streamlit as st
st.title('labels')
